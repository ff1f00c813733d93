//! What of a configuration decides the outcome, as a digest.

use serde_json::{Value, json};

use super::types::{Config, Exact, Host, Mapping, Modes, SymlinkPolicy};
use crate::model::Blake3;

/// The digest of everything that decides what an apply writes, and where.
///
/// It holds no secrets and no absolute paths of this machine (unless they are written in the
/// configuration), so it is the same in every checkout. The order of the hosts does not count.
pub fn config_digest(config: &Config) -> Blake3 {
    let mut hosts: Vec<&Host> = config.hosts.iter().collect();
    hosts.sort_by(|a, b| a.id.cmp(&b.id));
    let settings = &config.settings;
    let document = json!({
        "version": 1,
        "hosts": hosts.into_iter().map(host).collect::<Vec<_>>(),
        "modes": match settings.modes {
            Modes::All => "all",
            Modes::Executable => "executable",
        },
        "max_delete_percent": settings.max_delete.percent,
        "staging_path": settings.staging_path.as_ref().map(ToString::to_string),
    });
    // Keys of a `Value` are sorted, so equal documents have equal texts.
    Blake3::of(document.to_string().as_bytes())
}

fn host(host: &Host) -> Value {
    json!({
        "id": host.id,
        "address": host.address,
        "port": host.port,
        "user": host.user,
        "mappings": host.mappings.iter().map(mapping).collect::<Vec<_>>(),
    })
}

fn mapping(mapping: &Mapping) -> Value {
    let mut value = json!({
        "src": mapping.src_as_written,
        // The text that the path was made of is UTF-8, so nothing is lost here.
        "dest": mapping.dest.to_string(),
        "exact": match mapping.exact {
            Exact::No => "no",
            Exact::Orphans => "orphans",
            Exact::Mirror => "mirror",
        },
        "exclude": mapping.exclude.patterns(),
        "symlinks": match mapping.symlinks {
            SymlinkPolicy::Preserve => "preserve",
            SymlinkPolicy::Follow => "follow",
            SymlinkPolicy::Skip => "skip",
        },
    });
    // Digests of configurations without it stay what they were.
    if mapping.trust_ancestors {
        value["trust_ancestors"] = true.into();
    }
    value
}
