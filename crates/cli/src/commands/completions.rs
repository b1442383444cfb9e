//! `tenure completions`: what a shell needs to complete the command line.

use std::io::{self, Write};

use clap::{Args, Command};
use clap_complete::Shell;

use crate::failure::Failure;

/// What `completions` is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    shell: Shell,
}

/// `command`: all of the command line.
pub(crate) fn run(arguments: &Arguments, mut command: Command) -> Result<(), Failure> {
    // In memory, for the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "tenure", &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}
