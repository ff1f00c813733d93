//! Makes the way to a TCP server longer: `latency_proxy LISTEN TARGET ONE_WAY_MS`.
//!
//! `latency_proxy 127.0.0.1:2200 127.0.0.1:22 25` listens on port 2200 and passes every connection on to
//! port 22, each direction 25 ms later: a round trip takes 50 ms more. Bandwidth is not limited. It says
//! where it listens, and goes on until it is killed. Each line on its standard input makes it print how many
//! bytes have arrived so far, in both directions together.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that speaks to whoever started it"
)]

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use hostsync_testkit::latency::LatencyProxy;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match start(&arguments) {
        Ok(proxy) => {
            println!("listening on {}", proxy.address());
            for _ in io::stdin().lines().map_while(Result::ok) {
                println!("{}", proxy.carried_bytes());
            }
            loop {
                thread::park();
            }
        }
        Err(problem) => {
            eprintln!("latency_proxy: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &[String]) -> Result<LatencyProxy, String> {
    let [listen, target, one_way_ms] = arguments else {
        return Err("usage: latency_proxy LISTEN TARGET ONE_WAY_MS".to_owned());
    };
    let address = |text: &String| {
        text.parse()
            .map_err(|_| format!("`{text}` is not an address such as 127.0.0.1:2200"))
    };
    let one_way_ms: u32 = one_way_ms
        .parse()
        .map_err(|_| format!("`{one_way_ms}` is not a number of milliseconds"))?;
    let one_way = Duration::from_millis(one_way_ms.into());
    LatencyProxy::start(address(listen)?, address(target)?, one_way)
        .map_err(|error| format!("cannot listen on {listen}: {error}"))
}
