//! A small stand-in for the servers of GitHub and GitLab: it speaks the part of their APIs that the
//! examples use, over HTTP, and checks what it is asked for.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};

/// Entries on a page, however many are asked for: so that everybody has to turn pages.
const PAGE: usize = 2;
/// The project, as both systems number it.
pub(crate) const PROJECT: &str = "7";
/// A fork of it.
pub(crate) const FORK: &str = "8";
/// What GitLab hands to each job.
pub(crate) const JOB_TOKEN: &str = "job-token-of-gitlab";
/// What GitLab has as a variable, for comments.
pub(crate) const COMMENT_TOKEN: &str = "comment-token-of-gitlab";

/// A comment on a pull request or merge request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Comment {
    pub(crate) id: usize,
    pub(crate) author: String,
    pub(crate) body: String,
}

/// A file that a job has left behind under a name.
#[derive(Clone, Debug)]
struct Artifact {
    name: String,
    run: usize,
    repository: &'static str,
    content: Vec<u8>,
}

/// What the server knows.
#[derive(Default)]
pub(crate) struct Contents {
    comments: Vec<Comment>,
    artifacts: Vec<Artifact>,
    /// Files of the generic package registry, by their path.
    packages: BTreeMap<String, Vec<u8>>,
    refused: Vec<String>,
}

/// The running server.
#[derive(Clone)]
pub(crate) struct Forge {
    pub(crate) url: String,
    contents: Arc<Mutex<Contents>>,
}

/// What a request says.
struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

type Answer = (u16, Vec<u8>);

impl Forge {
    /// Starts a server in which others have commented already.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("an address");
        let forge = Self {
            url: format!("http://{address}"),
            contents: Arc::default(),
        };
        for number in 0..3 {
            let body = format!("I do not like it ({number}): <!-- hostsync plan -->");
            forge.lock().comment("somebody", body);
        }
        // One that looks like ours and is not.
        let forged = "<!-- hostsync plan -->\nNothing to see here".to_owned();
        forge.lock().comment("somebody", forged);
        let server = forge.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                thread::spawn(move || server.serve(stream));
            }
        });
        forge
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().expect("no thread panics with it")
    }

    /// What the jobs have commented.
    pub(crate) fn comments(&self) -> Vec<Comment> {
        let contents = self.lock();
        let ours = |comment: &&Comment| comment.author != "somebody";
        contents.comments.iter().filter(ours).cloned().collect()
    }

    /// Names of the artifacts of GitHub and of the packages of GitLab.
    pub(crate) fn kept(&self) -> Vec<String> {
        let contents = self.lock();
        let artifacts = contents.artifacts.iter().map(|artifact| &artifact.name);
        artifacts.chain(contents.packages.keys()).cloned().collect()
    }

    /// What was asked for without the right to it.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.lock().refused.clone()
    }

    /// Stores an artifact of GitHub; another one of this name and run gives way.
    pub(crate) fn keep(&self, name: &str, run: usize, repository: &'static str, content: Vec<u8>) {
        let mut contents = self.lock();
        let is_same = |artifact: &Artifact| artifact.name == name && artifact.run == run;
        contents.artifacts.retain(|artifact| !is_same(artifact));
        contents.artifacts.push(Artifact {
            name: name.to_owned(),
            run,
            repository,
            content,
        });
    }

    fn serve(&self, mut stream: TcpStream) {
        let Some(request) = Request::read(&stream) else {
            return;
        };
        let (status, body) = self.answer(&request);
        if status >= 400 && status != 404 {
            let line = format!("{status} {} {}", request.method, request.path);
            self.lock().refused.push(line);
        }
        let head = format!(
            "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        // The client may have gone.
        let _ = stream.write_all(&[head.as_bytes(), &body].concat());
    }

    fn answer(&self, request: &Request) -> Answer {
        let parts: Vec<&str> = request.path.split('/').skip(1).collect();
        match parts.as_slice() {
            ["repos", "owner", "name", rest @ ..] => self.github(request, rest),
            ["api", "v4", "user"] if request.is_by(COMMENT_TOKEN) => {
                (200, json!({ "id": 42 }).to_string().into_bytes())
            }
            ["api", "v4", "projects", project, rest @ ..] => self.gitlab(request, project, rest),
            _ => (404, b"{}".to_vec()),
        }
    }

    fn github(&self, request: &Request, path: &[&str]) -> Answer {
        let mut contents = self.lock();
        match (request.method.as_str(), path) {
            ("GET", ["issues", "1", "comments"]) => request.page(contents.comments_as_json()),
            ("POST", ["issues", "1", "comments"]) if request.may("pull-requests:write") => {
                let body = request.json_body();
                contents.write(None, "github-actions[bot]", body, 65_536)
            }
            ("PATCH", ["issues", "comments", id]) if request.may("pull-requests:write") => {
                let body = request.json_body();
                contents.write(Some(id), "github-actions[bot]", body, 65_536)
            }
            ("GET", ["actions", "artifacts"]) if request.may("actions:read") => {
                let name = request.query["name"].as_str();
                let found = contents.artifacts.iter().enumerate();
                let found = found.filter(|(_, artifact)| artifact.name == name);
                let found = found.map(|(index, artifact)| {
                    json!({
                        "name": artifact.name,
                        "expired": false,
                        "created_at": format!("2026-01-01T00:{index:02}:00Z"),
                        "workflow_run": {
                            "id": artifact.run,
                            "repository_id": PROJECT,
                            "head_repository_id": artifact.repository,
                        },
                    })
                });
                let (status, page) = request.page(found.collect());
                let page: Value = serde_json::from_slice(&page).expect("our own page");
                (
                    status,
                    json!({ "artifacts": page }).to_string().into_bytes(),
                )
            }
            // How `gh run download` gets there is its own affair.
            ("GET", ["download", run, name]) if request.may("actions:read") => {
                let is_it = |artifact: &&Artifact| {
                    artifact.run.to_string() == *run && artifact.name == *name
                };
                match contents.artifacts.iter().find(is_it) {
                    Some(artifact) => (200, artifact.content.clone()),
                    None => (404, Vec::new()),
                }
            }
            _ => (403, b"{}".to_vec()),
        }
    }

    fn gitlab(&self, request: &Request, project: &str, path: &[&str]) -> Answer {
        let mut contents = self.lock();
        let is_ours = project == PROJECT;
        match (request.method.as_str(), path) {
            _ if !is_ours => (403, b"{}".to_vec()),
            ("PUT", ["packages", "generic", "hostsync-plan", version, "plan.json"])
                if request.has("job-token", JOB_TOKEN) =>
            {
                let name = format!("plan-{version}");
                contents.packages.insert(name, request.body.clone());
                (201, b"{}".to_vec())
            }
            ("GET", ["packages", "generic", "hostsync-plan", version, "plan.json"])
                if request.has("job-token", JOB_TOKEN) =>
            {
                match contents.packages.get(&format!("plan-{version}")) {
                    Some(content) => (200, content.clone()),
                    None => (404, b"{}".to_vec()),
                }
            }
            ("GET", ["merge_requests", "1", "notes"]) if request.is_by(COMMENT_TOKEN) => {
                request.page(contents.comments_as_json())
            }
            ("POST", ["merge_requests", "1", "notes"]) if request.is_by(COMMENT_TOKEN) => {
                contents.write(None, "42", request.form_body(), 1_000_000)
            }
            ("PUT", ["merge_requests", "1", "notes", id]) if request.is_by(COMMENT_TOKEN) => {
                contents.write(Some(id), "42", request.form_body(), 1_000_000)
            }
            _ => (403, b"{}".to_vec()),
        }
    }
}

impl Contents {
    fn comment(&mut self, author: &str, body: String) {
        let id = 100 + self.comments.len();
        let author = author.to_owned();
        self.comments.push(Comment { id, author, body });
    }

    fn comments_as_json(&self) -> Vec<Value> {
        let as_json = |comment: &Comment| {
            let Comment { id, author, body } = comment;
            // GitHub knows authors by their login, GitLab by a number.
            let number: usize = author.parse().unwrap_or(1);
            json!({ "id": id, "body": body, "user": { "login": author }, "author": { "id": number } })
        };
        self.comments.iter().map(as_json).collect()
    }

    fn write(&mut self, id: Option<&str>, author: &str, body: String, limit: usize) -> Answer {
        if body.is_empty() || body.chars().count() > limit {
            return (422, b"{}".to_vec());
        }
        let Some(id) = id else {
            self.comment(author, body);
            return (201, b"{}".to_vec());
        };
        let mut comments = self.comments.iter_mut();
        match comments.find(|comment| comment.id.to_string() == id) {
            Some(comment) if comment.author == author => {
                comment.body = body;
                (200, b"{}".to_vec())
            }
            _ => (403, b"{}".to_vec()),
        }
    }
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            if line.trim_end().is_empty() {
                break;
            }
            lines.push(line.trim_end().to_owned());
        }
        let mut first = lines.first()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers: BTreeMap<String, String> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").map_or("0", String::as_str);
        let mut body = vec![0; length.parse().ok()?];
        if headers.contains_key("expect") {
            (&mut &*stream)
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .ok()?;
        }
        reader.read_exact(&mut body).ok()?;
        Some(Self {
            method,
            path: path.to_owned(),
            query: form(query),
            headers,
            body,
        })
    }

    fn has(&self, header: &str, value: &str) -> bool {
        self.headers.get(header).is_some_and(|has| has == value)
    }

    /// Whether it is from whoever has this token of GitLab.
    fn is_by(&self, token: &str) -> bool {
        self.has("private-token", token)
    }

    /// Whether its token of GitHub, which lists them, has this permission.
    fn may(&self, permission: &str) -> bool {
        let token = self.headers.get("authorization");
        let token = token.and_then(|value| value.strip_prefix("Bearer "));
        token.is_some_and(|token| token.split(',').any(|has| has == permission))
    }

    fn json_body(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).expect("JSON");
        body["body"].as_str().expect("a text").to_owned()
    }

    fn form_body(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        form(&body).remove("body").expect("a field `body`")
    }

    /// The page that is asked for.
    fn page(&self, all: Vec<Value>) -> Answer {
        let page = self
            .query
            .get("page")
            .map_or(1, |page| page.parse().expect("a number"));
        let page: Vec<Value> = all.into_iter().skip((page - 1) * PAGE).take(PAGE).collect();
        (200, Value::from(page).to_string().into_bytes())
    }
}

/// The fields of a form or a query.
fn form(text: &str) -> BTreeMap<String, String> {
    let fields = text.split('&').filter_map(|field| field.split_once('='));
    fields
        .map(|(name, value)| (name.to_owned(), percent_decoded(value)))
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
                let digits = std::str::from_utf8(&digits).expect("digits");
                u8::from_str_radix(digits, 16).expect("a number")
            }
            other => other,
        });
    }
    String::from_utf8(bytes).expect("UTF-8")
}
