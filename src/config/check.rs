//! From what is written to a [`Config`]: every rule that does not belong to one file format.

use std::collections::HashMap;
use std::path::PathBuf;

use secrecy::SecretString;

use super::document::{Document, Findings, Node, RawConfig, RawHost, RawMappings, Value};
use super::error::IssueCode;
use super::fields::{Fields, wrong_element};
use super::keys;
use super::places::{Places, folder_of, no_home};
use super::span::Span;
use super::types::{Auth, Config, Exact, Excludes, Host, Mapping, Passkey, SymlinkPolicy};
use super::values::{address_error, dest_error, name_error};
use super::{access, enclosure, settings};
use crate::model::{HostId, LocalPath, RemotePath};

/// Makes a configuration of what is written. What is wrong with it is added to `findings`; the
/// result is to be used only if that has no issues.
pub(super) fn check(raw: &RawConfig, places: &Places<'_>, findings: &mut Findings) -> Config {
    let settings = settings::check(&raw.settings, places, findings);
    if places.enclosure.is_none() {
        access::remark_on_known_hosts(&settings.known_hosts_path, findings);
    }
    refuse_duplicate_hosts(&raw.hosts, findings);
    let hosts = raw
        .hosts
        .iter()
        .filter_map(|host| check_host(host, places, findings))
        .collect();
    if let Some(raw) = &raw.unassigned {
        check_mappings(raw, places, findings);
    }
    Config {
        path: raw.path.clone(),
        settings,
        hosts,
    }
}

fn refuse_duplicate_hosts(hosts: &[RawHost], findings: &mut Findings) {
    let mut first_spans: HashMap<&str, Span> = HashMap::new();
    for raw in hosts {
        let Some((node, name)) = raw.host.table.host_name() else {
            continue;
        };
        if let Some(first) = first_spans.get(name) {
            findings.issue(
                raw.host
                    .document
                    .issue(
                        IssueCode::DuplicateHost,
                        format!("host `{name}` is there twice"),
                    )
                    .label(*first, "first here")
                    .label(node.span, "and again here")
                    .help("remove one, or give it a `name` of its own"),
            );
        } else {
            first_spans.insert(name, node.span);
        }
    }
}

fn check_host(raw: &RawHost, places: &Places<'_>, findings: &mut Findings) -> Option<Host> {
    let fields = Fields {
        document: &raw.host.document,
        table: &raw.host.table,
    };
    fields.refuse_unknown(&keys::HOST, findings);
    let address = fields.needed_text("ip_address", findings);
    let user = fields.needed_text("user", findings);
    let name = fields.filled_text("name", findings);
    let port = port(fields, findings);
    let groups = fields.texts("groups", findings);
    // How a stranger would log in does not matter: nobody does.
    let auth = match places.enclosure {
        None => auth(fields, places, findings),
        Some(_) => Auth::default(),
    };
    if let Some(path) = &auth.identity_file {
        access::remark_on_identity(path.as_path(), findings);
    }
    if let Some((address, node)) = address
        && let Some(reason) = address_error(address)
    {
        findings.issue(fields.invalid(node, "`ip_address` is not an address", reason));
    }
    if let Some((user, node)) = user
        && user.chars().any(char::is_control)
    {
        findings.issue(fields.invalid(node, "`user` holds a control character", "in this"));
    }
    // Behind an `@` it may be how a gateway wants it.
    if let Some((user, node)) = user
        && user
            .split('@')
            .next()
            .is_some_and(|name| name.contains(':'))
    {
        findings.issue(
            fields
                .invalid(
                    node,
                    "`user` holds more than a login name",
                    "a `:` is in this",
                )
                .help("write the password as `passkey`"),
        );
    }
    if let Some((name, node)) = name.or(address)
        && let Some(reason) = name_error(name)
    {
        findings.issue(
            fields
                .invalid(node, "a host cannot have this name", reason)
                .help("the name of a host is also the name of files about it"),
        );
    }
    let (mappings, problem) = mappings(raw, places, findings);
    let (address, _) = address?;
    let (user, _) = user?;
    Some(Host {
        id: HostId::new(name.map_or(address, |(name, _)| name)),
        address: address.to_owned(),
        port,
        user: user.to_owned(),
        login_problem: identity_problem(&auth),
        auth,
        groups: groups
            .into_iter()
            .map(|(group, _)| group.to_owned())
            .collect(),
        mappings,
        problem,
    })
}

/// Why a host could not be logged in to with the key that it names.
fn identity_problem(auth: &Auth) -> Option<String> {
    let path = auth.identity_file.as_ref()?.as_path();
    match path.try_exists() {
        Ok(true) => None,
        Ok(false) => Some(format!(
            "`identity_file` {} does not exist; create it with `ssh-keygen`, correct the path, or \
             leave the key out",
            path.display()
        )),
        Err(error) => Some(format!(
            "cannot look at `identity_file` {}: {error}; check who may read it",
            path.display()
        )),
    }
}

fn port(fields: Fields<'_>, findings: &mut Findings) -> u16 {
    const DEFAULT: u16 = 22;
    let Some(node) = fields.get("port") else {
        return DEFAULT;
    };
    let Value::Number(number) = &node.value else {
        findings.issue(fields.wrong_type("port", node, "a number"));
        return DEFAULT;
    };
    match number.parse() {
        Ok(port) if port > 0 => port,
        _ => {
            findings.issue(fields.invalid(node, "`port` is not a port", "not within 1 to 65535"));
            DEFAULT
        }
    }
}

fn auth(fields: Fields<'_>, places: &Places<'_>, findings: &mut Findings) -> Auth {
    let folder = folder_of(&fields.document.path);
    let identity_file = fields
        .filled_text("identity_file", findings)
        .and_then(|(text, node)| {
            let path = places.absolute(text, folder);
            if path.is_none() {
                findings.issue(no_home(fields.document, node.span));
            }
            path.map(LocalPath::new)
        });
    let literal = fields
        .text("passkey", findings)
        // An empty one is the same as none, as with the settings.
        .filter(|(text, _)| !text.is_empty())
        .map(|(text, _)| Passkey::Literal(SecretString::from(text)));
    let variable = fields
        .filled_text("passkey_env", findings)
        .and_then(|(text, node)| {
            if text.contains(['=', '\0']) {
                findings.issue(fields.invalid(
                    node,
                    "`passkey_env` is not the name of a variable",
                    "this",
                ));
                return None;
            }
            Some(Passkey::Env(text.to_owned()))
        });
    let command = fields
        .filled_text("passkey_command", findings)
        .map(|(text, _)| Passkey::Command(text.to_owned()));
    refuse_several_passkeys(fields, findings);
    Auth {
        identity_file,
        passkey: literal.or(variable).or(command),
    }
}

fn refuse_several_passkeys(fields: Fields<'_>, findings: &mut Findings) {
    let named: Vec<_> = fields
        .table
        .entries
        .iter()
        .filter(|entry| {
            matches!(
                entry.key.as_str(),
                "passkey" | "passkey_env" | "passkey_command"
            )
        })
        .collect();
    if named.len() < 2 {
        return;
    }
    let issue = fields.document.issue(
        IssueCode::SeveralPasskeys,
        "the password of a host comes from more than one place",
    );
    let issue = named.iter().fold(issue, |issue, entry| {
        issue.label(entry.key_span, "from here")
    });
    findings.issue(issue.help("keep one of them"));
}

/// The mappings of a host, and why it cannot be worked on.
fn mappings(
    raw: &RawHost,
    places: &Places<'_>,
    findings: &mut Findings,
) -> (Vec<Mapping>, Option<String>) {
    let raw = match &raw.mappings {
        Ok(raw) => raw,
        Err(problem) => return (Vec::new(), Some(problem.clone())),
    };
    let (mappings, dest_spans) = check_mappings(raw, places, findings);
    refuse_overlaps(&raw.document, &mappings, &dest_spans, findings);
    let problems: Vec<_> = mappings.iter().filter_map(source_problem).collect();
    let problem = (!problems.is_empty()).then(|| problems.join("; "));
    (mappings, problem)
}

/// The mappings of a list one by one, with the places of their destinations.
fn check_mappings(
    raw: &RawMappings,
    places: &Places<'_>,
    findings: &mut Findings,
) -> (Vec<Mapping>, Vec<Span>) {
    let mut mappings = Vec::new();
    let mut dest_spans = Vec::new();
    for node in &raw.nodes {
        let Value::Table(table) = &node.value else {
            findings.issue(wrong_element(&raw.document, node, "{\"src\", \"dest\"}"));
            continue;
        };
        let fields = Fields {
            document: &raw.document,
            table,
        };
        if let Some((mapping, dest_span)) = check_mapping(fields, places, findings) {
            mappings.push(mapping);
            dest_spans.push(dest_span);
        }
    }
    (mappings, dest_spans)
}

/// Why a source cannot be used.
fn source_problem(mapping: &Mapping) -> Option<String> {
    let path = mapping.src.as_path();
    let error = path.symlink_metadata().err()?;
    let written = &mapping.src_as_written;
    Some(if error.kind() == std::io::ErrorKind::NotFound {
        format!(
            "`src` `{written}` does not exist ({}); create it or correct the mapping",
            path.display()
        )
    } else {
        format!(
            "cannot read `src` `{written}` ({}): {error}; check who may read it",
            path.display()
        )
    })
}

fn check_mapping(
    fields: Fields<'_>,
    places: &Places<'_>,
    findings: &mut Findings,
) -> Option<(Mapping, Span)> {
    fields.refuse_unknown(&keys::MAPPING, findings);
    let src = fields.needed_text("src", findings);
    let dest = fields.needed_text("dest", findings);
    let exact = exact(fields, findings);
    let exclude = exclude(fields, findings);
    let symlinks = symlinks(fields, findings);
    let trust_ancestors = trust_ancestors(fields, findings);
    let src_path = src.and_then(|(text, node)| {
        if text.contains('\0') {
            findings.issue(fields.invalid(node, "`src` holds a NUL", "no path has one"));
            return None;
        }
        let path = places.absolute(text, places.base);
        if path.is_none() {
            findings.issue(no_home(fields.document, node.span));
        }
        path.and_then(|path| {
            enclosed_source(path, fields, node, &exclude, symlinks, places, findings)
        })
    });
    let (src, src_node) = src?;
    let (dest, dest_node) = dest?;
    let full_dest = if dest.ends_with('/') {
        // `src` as it is written decides, so that the plan is the same wherever the folder lies.
        let Some(name) = base_name(src) else {
            findings.issue(
                fields
                    .invalid(
                        dest_node,
                        "`dest` ends in `/`, and `src` has no base name to append",
                        "the base name of `src` would come here",
                    )
                    .label(src_node.span, "has none")
                    .help("write the full path on the host, without a `/` at its end"),
            );
            return None;
        };
        format!("{dest}{name}")
    } else {
        dest.to_owned()
    };
    if let Some((reason, help)) = dest_error(&full_dest) {
        findings.issue(
            fields
                .invalid(dest_node, "`dest` cannot be used", reason)
                .help(help),
        );
        return None;
    }
    let mapping = Mapping {
        src: LocalPath::new(src_path?),
        src_as_written: src.to_owned(),
        dest: RemotePath::from_dest(full_dest.as_bytes()),
        dest_as_written: full_dest,
        exact,
        exclude,
        symlinks,
        trust_ancestors,
    };
    Some((mapping, dest_node.span))
}

/// A source of a stranger, links resolved, if neither it nor a link that is followed in it leads out of the
/// folder; any other one as it is.
fn enclosed_source(
    path: PathBuf,
    fields: Fields<'_>,
    node: &Node,
    exclude: &Excludes,
    symlinks: SymlinkPolicy,
    places: &Places<'_>,
    findings: &mut Findings,
) -> Option<PathBuf> {
    let Some(enclosure) = places.enclosure else {
        return Some(path);
    };
    let Some(real) = enclosure.follow(&path) else {
        findings.issue(
            enclosure::leads_out(fields.document, "`src`").label(node.span, enclosure::ELSEWHERE),
        );
        return None;
    };
    let follows = symlinks == SymlinkPolicy::Follow;
    if let Some(link) = follows
        .then(|| enclosure.link_out(&real, exclude))
        .flatten()
    {
        let message = format!(
            "`src` holds a link that leads out of the configuration's folder: {}",
            link.display()
        );
        findings.issue(
            fields
                .document
                .issue(IssueCode::OutsideFolder, message)
                .label(node.span, "links in this are followed")
                .help(
                    "the configuration is not trusted: remove the link, `exclude` it, or take it as it is, \
                     with `symlinks` set to \"preserve\"",
                ),
        );
        return None;
    }
    Some(real)
}

/// The last component of a path as it is written, if it names something.
fn base_name(path: &str) -> Option<&str> {
    path.rsplit('/')
        .find(|part| !part.is_empty())
        .filter(|part| !matches!(*part, "." | ".." | "~"))
}

fn exact(fields: Fields<'_>, findings: &mut Findings) -> Exact {
    let Some(node) = fields.get("exact") else {
        return Exact::default();
    };
    match &node.value {
        Value::Bool(false) => Exact::No,
        Value::Bool(true) => Exact::Orphans,
        Value::Text(text) if text == "mirror" => Exact::Mirror,
        _ => {
            findings.issue(
                fields
                    .invalid(node, "`exact` cannot be this", "unknown value")
                    .help("write `true`, `false` or `\"mirror\"`"),
            );
            Exact::default()
        }
    }
}

fn trust_ancestors(fields: Fields<'_>, findings: &mut Findings) -> bool {
    match fields.get("trust_ancestors") {
        None => false,
        Some(Node {
            value: Value::Bool(trusts),
            ..
        }) => *trusts,
        Some(node) => {
            findings.issue(
                fields
                    .invalid(node, "`trust_ancestors` cannot be this", "unknown value")
                    .help("write `true` or `false`"),
            );
            false
        }
    }
}

fn exclude(fields: Fields<'_>, findings: &mut Findings) -> Excludes {
    let mut patterns = Vec::new();
    for (pattern, node) in fields.texts("exclude", findings) {
        let problem = if pattern.trim_matches('/').is_empty() {
            Some("it names nothing".to_owned())
        } else {
            Excludes::new(vec![pattern.to_owned()])
                .err()
                .map(|error| error.reason)
        };
        match problem {
            None => patterns.push(pattern.to_owned()),
            Some(reason) => findings.issue(
                fields
                    .document
                    .issue(IssueCode::InvalidGlob, "what `exclude` holds is not a glob")
                    .label(node.span, reason),
            ),
        }
    }
    Excludes::new(patterns).unwrap_or_else(|error| {
        findings.issue(fields.document.issue(IssueCode::InvalidGlob, error.reason));
        Excludes::default()
    })
}

fn symlinks(fields: Fields<'_>, findings: &mut Findings) -> SymlinkPolicy {
    let Some((text, node)) = fields.text("symlinks", findings) else {
        return SymlinkPolicy::default();
    };
    match text {
        "preserve" => SymlinkPolicy::Preserve,
        "follow" => SymlinkPolicy::Follow,
        "skip" => SymlinkPolicy::Skip,
        _ => {
            findings.issue(
                fields
                    .invalid(node, "`symlinks` cannot be this", "unknown value")
                    .suggest(text, &["preserve", "follow", "skip"]),
            );
            SymlinkPolicy::default()
        }
    }
}

fn refuse_overlaps(
    document: &Document,
    mappings: &[Mapping],
    dest_spans: &[Span],
    findings: &mut Findings,
) {
    for (later, mapping) in mappings.iter().enumerate() {
        for (earlier, other) in mappings[..later].iter().enumerate() {
            let text = if mapping.dest == other.dest {
                "the same destination twice"
            } else if mapping.dest.contains(&other.dest) || other.dest.contains(&mapping.dest) {
                "a destination that lies in another one of the same host"
            } else {
                continue;
            };
            findings.issue(
                document
                    .issue(IssueCode::OverlappingDestinations, text)
                    .label(
                        dest_spans[earlier],
                        format!("this is {}", other.dest_as_written),
                    )
                    .label(
                        dest_spans[later],
                        format!("this is {}", mapping.dest_as_written),
                    )
                    .help("no file may have two mappings; use `exclude` or join their sources"),
            );
        }
    }
}
