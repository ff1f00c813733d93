//! `hostsync check`

use super::args::{CheckSettings, GlobalSettings};
use super::console::Console;
use super::context::{Context, Stop};
use super::exit::Exit;
use super::interrupt::Interrupts;
use crate::config::Host;
use crate::plan::prepare::{for_each_parallel, with_help};
use crate::state::StateStore;
use crate::transport::Connector as _;
use crate::view::text::{count, escape_text};

pub(super) fn run(
    global: &GlobalSettings,
    settings: &CheckSettings,
    console: &Console,
) -> Result<Exit, Stop> {
    let _interrupts = Interrupts::listen();
    let mut context = Context::load(global, console)?;
    context.start_logs("check")?;
    StateStore::open(&context.config.settings.state_path)?;
    for remark in &context.remarks {
        console.say(&format!("remark: {remark}"));
    }
    let hosts = context.select(&settings.limit)?;
    let problems: Vec<Option<String>> = if settings.connects {
        let connector = context.connector();
        let threads = context.config.settings.number_of_connections;
        for_each_parallel(&hosts, threads, |_, host| {
            host.problem
                .clone()
                .or_else(|| match connector.connect(host) {
                    Ok(session) => {
                        session.close();
                        None
                    }
                    Err(error) => Some(with_help(&error)),
                })
        })
    } else {
        hosts.iter().map(|host| host.problem.clone()).collect()
    };
    let mut text = String::new();
    for (host, problem) in hosts.iter().zip(&problems) {
        text.push_str(&line(host, problem.as_deref(), settings.connects));
    }
    let failed = problems.iter().flatten().count();
    let mappings = hosts.iter().map(|host| host.mappings.len()).sum();
    let total = format!(
        "{}, {}",
        count(hosts.len(), "host", "hosts"),
        count(mappings, "mapping", "mappings")
    );
    text.push_str(&match (failed, settings.connects) {
        (0, true) => format!("Checked: {total}; all of them let us in.\n"),
        (0, false) => format!("Checked: {total}; the configuration is valid.\n"),
        (failed, _) => format!(
            "Checked: {total}; {} a problem.\n",
            count(failed, "host has", "hosts have")
        ),
    });
    console.data(text.as_bytes());
    let exit = if failed == 0 {
        Exit::Done
    } else {
        Exit::HostsFailed
    };
    Ok(context.finish(exit))
}

fn line(host: &Host, problem: Option<&str>, is_connected: bool) -> String {
    let name = &host.id;
    match problem {
        Some(problem) => format!("{name}: {}\n", escape_text(problem)),
        None if is_connected => format!(
            "{name}: ok ({}@{}:{})\n",
            host.user, host.address, host.port
        ),
        None => String::new(),
    }
}
