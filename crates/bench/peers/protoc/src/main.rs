//! Stands in for protoc where prost-build asks for it, so that nobody has to
//! install one: `protoc [--flags] -o FILE -I DIR .. FILE ..`.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut output, mut includes, mut files) = (None, Vec::new(), Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-o" => output = arguments.next(),
            "-I" => includes.extend(arguments.next()),
            // Imports and comments are always included.
            flag if flag.starts_with("--") => {}
            _ => files.push(argument),
        }
    }
    let descriptors = protox::compile(files, includes)?;
    fs::write(output.ok_or("no -o FILE")?, descriptors.encode_to_vec())?;
    Ok(())
}
