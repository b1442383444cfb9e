//! The bodies of the fuzz targets over the committed inputs, and over each cut short
//! and with a bit turned: what was found once is not found again.

#[path = "../fuzz/targets/connection.rs"]
mod connection;
#[path = "../fuzz/targets/frame.rs"]
mod frame;
#[path = "../fuzz/targets/inputs.rs"]
mod inputs;
#[path = "../fuzz/targets/lease.rs"]
mod lease;
#[path = "../fuzz/targets/lock.rs"]
mod lock;
#[path = "../fuzz/targets/message.rs"]
mod message;
#[path = "../fuzz/targets/percent.rs"]
mod percent;
#[path = "../fuzz/targets/ping.rs"]
mod ping;
#[path = "../fuzz/targets/pool.rs"]
mod pool;
#[path = "../fuzz/targets/retry.rs"]
mod retry;
#[path = "../fuzz/targets/status.rs"]
mod status;
#[path = "../fuzz/targets/watch.rs"]
mod watch;

/// Of each input, spread over it.
const VARIANTS: usize = 16;

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let inputs = std::fs::read_dir(&corpus).expect("a committed corpus");
    let mut count = 0;
    for input in inputs {
        let path = input.unwrap().path();
        println!("{}", path.display());
        let mut bytes = std::fs::read(&path).unwrap();
        run(&bytes);
        for variant in 0..VARIANTS.min(bytes.len()) {
            let at = variant * bytes.len() / VARIANTS.min(bytes.len());
            run(&bytes[..at]);
            bytes[at] ^= 1 << (variant % 8);
            run(&bytes);
            bytes[at] ^= 1 << (variant % 8);
        }
        count += 1;
    }
    assert!(count > 0, "{corpus} is empty");
}

macro_rules! replays {
    ($($target:ident)+) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target), crate::$target::run);
            }
        )+
    };
}

mod replays {
    use super::replay;

    replays!(connection frame lease lock message percent ping pool retry status watch);
}
