//! The hosts, and a work folder with a configuration for them.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;
use tempfile::TempDir;

use hostsync_testkit::embedded::{EmbeddedHost, HostOptions, random_bytes};

const USER: &str = "deploy";

const CONFIG: &str = include_str!("config.ini");

/// All hosts get the same.
const MAPPER: &str = include_str!("mapper.json");

/// One host of the tour.
pub(crate) struct Host {
    /// What hostsync calls it.
    pub(crate) name: String,
    /// The host itself.
    pub(crate) server: EmbeddedHost,
}

/// Everything that the tour plays with.
///
/// Fields are dropped in this order: the hosts stop before their folders go.
pub(crate) struct Scene {
    /// The hosts, in the order of the configuration.
    pub(crate) hosts: Vec<Host>,
    folder: TempDir,
}

impl Scene {
    /// Starts the hosts and writes the configuration and the sources.
    pub(crate) fn set_up(hosts: u8) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("hostsync-quickstart-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()?;
        let password = BASE64_URL_SAFE_NO_PAD.encode(random_bytes()?);
        let hosts = (0..hosts)
            .map(|index| start_host(folder.path(), index, &password))
            .collect::<io::Result<Vec<Host>>>()?;
        write_configuration(folder.path(), &hosts, &password)?;
        write_sources(folder.path())?;
        Ok(Self { hosts, folder })
    }

    /// The work folder; hostsync runs there.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path below the work folder.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// Leaves the work folder where it is when the tour ends.
    pub(crate) fn keep_folder(&mut self) {
        self.folder.disable_cleanup(true);
    }

    /// The first way in which a host differs from the sources; `None` when it has all of them.
    pub(crate) fn difference(&self, host: &Host) -> io::Result<Option<String>> {
        for name in ["site", "motd.txt"] {
            let difference = difference(&self.path(name), &host.server.home().join(name))?;
            if difference.is_some() {
                return Ok(difference);
            }
        }
        Ok(None)
    }
}

/// Each host has an address of its own, as far as the system lets it. On Linux all of 127.0.0.0/8
/// is there; elsewhere the hosts share an address and are told apart by port and name.
fn start_host(folder: &Path, index: u8, password: &str) -> io::Result<Host> {
    let own = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11 + index));
    let shared = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let home = folder
        .join("hosts")
        .join((11 + u16::from(index)).to_string());
    fs::create_dir_all(&home)?;
    let start = |address| EmbeddedHost::start(address, &home, HostOptions::new(USER, password));
    match start(own) {
        Ok(server) => Ok(Host {
            name: own.to_string(),
            server,
        }),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(Host {
            name: format!("web{}", index + 1),
            server: start(shared)?,
        }),
        Err(error) => Err(error),
    }
}

fn write_configuration(folder: &Path, hosts: &[Host], password: &str) -> io::Result<()> {
    let connections: Vec<_> = hosts
        .iter()
        .map(|host| {
            let address = host.server.address();
            let mut connection = json!({
                "ip_address": address.ip().to_string(),
                "user": USER,
                "passkey": password,
                "port": address.port(),
            });
            if host.name != address.ip().to_string() {
                connection["name"] = json!(host.name);
            }
            connection
        })
        .collect();

    fs::write(folder.join("config.ini"), CONFIG)?;
    // It holds a password.
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(folder.join("connection_info.json"))?;
    serde_json::to_writer_pretty(file, &connections)?;
    let mappers = folder.join("path_mapper");
    fs::create_dir(&mappers)?;
    for host in hosts {
        fs::write(mappers.join(format!("{}.json", host.name)), MAPPER)?;
    }
    Ok(())
}

/// A small source that has one of everything.
fn write_sources(folder: &Path) -> io::Result<()> {
    let site = folder.join("site");
    for name in ["bin", "css", "news"] {
        fs::create_dir_all(site.join(name))?;
    }
    let files = [
        (
            "index.html",
            "<h1>The bakery</h1>\n<p>Bread from six.</p>\n",
        ),
        (
            "opening hours.txt",
            "Monday to Saturday, 6 to 18\nSunday, 7 to 11\n",
        ),
        ("css/style.css", "h1 { font-family: serif; }\n"),
        ("news/spring.html", "<p>Rhubarb cake is back.</p>\n"),
        (
            "news/summer.html",
            "<p>We are on holiday in the second half of August.</p>\n",
        ),
        ("bin/ring-the-bell", "#!/bin/sh\necho 'Fresh rolls!'\n"),
    ];
    for (name, text) in files {
        fs::write(site.join(name), text)?;
    }
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(site.join("bin/ring-the-bell"), executable)?;
    symlink("summer.html", site.join("news/latest.html"))?;
    fs::write(folder.join("motd.txt"), "This host is kept by hostsync.\n")
}

/// Compares what must be the same: kinds, contents, whether a file is executable, targets.
fn difference(source: &Path, copy: &Path) -> io::Result<Option<String>> {
    let differs = |what: &str| Ok(Some(format!("{} {what}", copy.display())));
    let wanted = fs::symlink_metadata(source)?;
    let Ok(found) = fs::symlink_metadata(copy) else {
        return differs("is missing");
    };
    if wanted.file_type() != found.file_type() {
        return differs("is of another kind");
    }
    if wanted.is_symlink() {
        if fs::read_link(source)? != fs::read_link(copy)? {
            return differs("points somewhere else");
        }
    } else if wanted.is_dir() {
        for entry in fs::read_dir(source)? {
            let name = entry?.file_name();
            let below = difference(&source.join(&name), &copy.join(&name))?;
            if below.is_some() {
                return Ok(below);
            }
        }
    } else {
        if fs::read(source)? != fs::read(copy)? {
            return differs("has other contents");
        }
        if (wanted.permissions().mode() ^ found.permissions().mode()) & 0o111 != 0 {
            return differs("has another mode");
        }
    }
    Ok(None)
}
