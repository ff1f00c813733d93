//! Reading single files of a host: one command, however many they are.

use std::time::Duration;

use crate::model::RemotePath;
use crate::remote::limits::{Expected, Work};
use crate::remote::{Login, RemoteError, Room, Script, Task};

/// A file that is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where it is. Without a newline.
    pub path: RemotePath,
    /// The size that it had when it was looked at. One that is larger by now is read up to the next byte.
    pub size_bytes: u64,
}

/// What has come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Its content, which nobody has verified yet.
    Content(Vec<u8>),
    /// There is no regular file any more.
    Gone,
    /// The login user may not read it.
    Closed,
}

/// Reads files. Links are not followed; nothing on the host changes. The results are in the order of
/// `wanted`.
///
/// # Errors
/// When the host cannot be asked, or does not answer to the end.
pub fn fetch(
    login: &mut Login,
    wanted: &[Wanted],
    stall_timeout: Duration,
) -> Result<Vec<Fetched>, RemoteError> {
    let mut data = Vec::new();
    let mut expected = Expected::default();
    for Wanted { path, size_bytes } in wanted {
        // One byte more tells that it is larger now.
        expected.add_entry(path.as_bytes().len(), size_bytes.saturating_add(1));
        data.extend_from_slice(size_bytes.to_string().as_bytes());
        data.push(b'\n');
        data.extend_from_slice(path.as_bytes());
        data.push(b'\n');
    }
    let mut script = Script::new(Task::Fetch, stall_timeout);
    script.number("hs_files", data.len() as u64);
    script.work(Work {
        entries: expected.entries,
        disk_bytes: expected.file_bytes,
    });
    let contents = expected.file_bytes.saturating_add(expected.answer_bytes());
    let run = login.ask(&script, data, Room::for_answer(contents))?;
    let mut fetched = vec![None; wanted.len()];
    for section in run.into_sections().into_sections() {
        let argument = section.argument.as_str();
        let (index, reason) = argument.split_once(' ').unwrap_or((argument, ""));
        let place = index.parse().ok().and_then(|i: usize| fetched.get_mut(i));
        let answer = match (section.name.as_str(), reason) {
            ("file", "") => Fetched::Content(section.body),
            ("none", "gone") => Fetched::Gone,
            ("none", "closed") => Fetched::Closed,
            _ => continue,
        };
        if let Some(place) = place {
            *place = Some(answer);
        }
    }
    let all: Option<Vec<Fetched>> = fetched.into_iter().collect();
    all.ok_or_else(|| RemoteError::Answer {
        what: "some of the files are missing".to_owned(),
    })
}
