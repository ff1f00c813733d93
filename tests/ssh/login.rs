//! Getting in, and not getting in.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hostsync::config::{Host as ConfigHost, Passkey};
use hostsync::model::LocalPath;
use hostsync::transport::known_hosts::{self, KnownHosts, Verdict};
use hostsync::transport::libssh2::Libssh2Connector;
use hostsync::transport::{ConnectOptions, Connector as _, KeyProbe as _, TransportError};
use secrecy::SecretString;

use crate::harness::{connect, known_hosts as write_known_hosts, options_for, output_of};
use hostsync_testkit::{Agent, Dropbear, Host, Sshd, SshdOptions, is_root, run};

/// The host as an entry that names no credential.
fn nameless(host: &Host) -> ConfigHost {
    let mut config = host.to_config();
    config.auth.identity_file = None;
    config
}

fn with_passkey(host: &Host, passkey: Passkey) -> ConfigHost {
    let mut config = nameless(host);
    config.auth.passkey = Some(passkey);
    config
}

/// The password of the test user; `None`, said aloud, when we are not root and it has none.
#[expect(clippy::print_stderr, reason = "it is for people")]
fn password(host: &Host) -> Option<String> {
    if !is_root() {
        eprintln!("passwords are only tested by root");
    }
    host.account.password.clone()
}

fn assert_works(options: ConnectOptions, config: &ConfigHost) {
    let mut session = connect(options, config).unwrap_or_else(|error| panic!("{error}"));
    let (output, _) = output_of(&mut *session, "echo in").expect("runs");
    assert_eq!(output, "in\n");
}

fn failure(options: ConnectOptions, config: &ConfigHost) -> TransportError {
    connect(options, config).err().expect("must not get in")
}

#[test]
fn named_key_logs_in() {
    let host = Sshd::start("127.0.0.31");
    assert_works(options_for(&host), &host.to_config());
}

#[test]
fn named_key_logs_in_to_dropbear() {
    let host = Dropbear::start("127.0.0.32");
    assert_works(options_for(&host), &host.to_config());
}

#[test]
fn address_may_be_a_name_or_ipv6() {
    let host = Sshd::start("::1");
    assert_works(options_for(&host), &host.to_config());
    let host = Sshd::start("127.0.0.1");
    let mut config = host.to_config();
    config.address = "localhost".to_owned();
    let line = host.known_hosts_line().replace("127.0.0.1", "localhost");
    let options = ConnectOptions::new(write_known_hosts(&host, &line));
    // It may resolve to ::1 first, where nobody listens.
    assert_works(options, &config);
}

#[test]
fn password_logs_in_wherever_it_comes_from() {
    let host = Sshd::start("127.0.0.33");
    let Some(password) = password(&host) else {
        return;
    };
    let literal = Passkey::Literal(SecretString::from(password.clone()));
    assert_works(options_for(&host), &with_passkey(&host, literal));
    let command = Passkey::Command(format!("echo {password}; echo further lines"));
    assert_works(options_for(&host), &with_passkey(&host, command));
    let options = ConnectOptions {
        variables: Arc::new(move |name| {
            (name == "WEB_PASSWORD").then(|| SecretString::from(password.clone()))
        }),
        ..options_for(&host)
    };
    let variable = Passkey::Env("WEB_PASSWORD".to_owned());
    assert_works(options, &with_passkey(&host, variable));
}

#[test]
fn password_logs_in_where_only_questions_are_offered() {
    let host = Sshd::start_with(
        "127.0.0.34",
        &SshdOptions {
            config: vec![
                "UsePAM yes".to_owned(),
                "PasswordAuthentication no".to_owned(),
                "KbdInteractiveAuthentication yes".to_owned(),
            ],
            ..SshdOptions::default()
        },
    );
    let Some(password) = password(&host) else {
        return;
    };
    let right = Passkey::Literal(SecretString::from(password));
    assert_works(options_for(&host), &with_passkey(&host, right));
    let wrong = Passkey::Literal(SecretString::from("wrong-secret"));
    let error = failure(options_for(&host), &with_passkey(&host, wrong));
    assert!(
        matches!(error, TransportError::LoginRefused { .. }),
        "{error}"
    );
}

#[test]
fn key_comes_before_password_and_password_after_a_refused_key() {
    let host = Sshd::start("127.0.0.35");
    let Some(password) = password(&host) else {
        return;
    };
    let mut config = host.to_config();
    config.auth.passkey = Some(Passkey::Command("echo must not run; exit 1".to_owned()));
    assert_works(options_for(&host), &config);
    let other = new_key(&host, "other", "");
    config.auth.identity_file = Some(LocalPath::new(other));
    config.auth.passkey = Some(Passkey::Literal(SecretString::from(password)));
    assert_works(options_for(&host), &config);
}

#[test]
fn refused_password_says_what_was_tried_and_never_the_password() {
    let host = Sshd::start("127.0.0.36");
    let wrong = Passkey::Literal(SecretString::from("wrong-secret"));
    let error = failure(options_for(&host), &with_passkey(&host, wrong));
    assert!(
        matches!(error, TransportError::LoginRefused { .. }),
        "{error}"
    );
    let text = format!("{error} {error:?}");
    assert!(text.contains("tried password"), "{text}");
    assert!(!text.contains("wrong-secret"), "{text}");
}

#[test]
fn passkey_command_that_fails_or_hangs_says_nothing_of_its_output() {
    let host = Sshd::start("127.0.0.37");
    let failing = Passkey::Command("echo half-a-secret; echo secret-too >&2; exit 4".to_owned());
    let error = failure(options_for(&host), &with_passkey(&host, failing));
    assert!(
        matches!(error, TransportError::Credential { .. }),
        "{error}"
    );
    let text = format!("{error} {error:?}");
    assert!(text.contains("exit status: 4"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    let options = ConnectOptions {
        login_timeout: Duration::from_secs(1),
        ..options_for(&host)
    };
    let started = Instant::now();
    let hanging = Passkey::Command("sleep 30; echo secret".to_owned());
    let error = failure(options, &with_passkey(&host, hanging));
    assert!(matches!(error, TransportError::Timeout { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn missing_variable_is_told_without_its_name_which_may_be_the_password() {
    let host = Sshd::start("127.0.0.37");
    let missing = Passkey::Env("WEB_PASSWORD".to_owned());
    let error = failure(options_for(&host), &with_passkey(&host, missing));
    let text = format!("{error} {error:?}");
    assert!(text.contains("`passkey_env` names is not set"), "{text}");
    assert!(!text.contains("WEB_PASSWORD"), "{text}");
}

#[test]
fn agent_logs_in_with_the_first_key_that_fits() {
    let host = Sshd::start("127.0.0.38");
    let agent = Agent::start();
    agent.add(&new_key(&host, "other", ""));
    agent.add(&host.identity_file());
    let options = ConnectOptions {
        agent_socket: Some(agent.socket()),
        ..options_for(&host)
    };
    assert_works(options, &nameless(&host));
}

#[test]
fn agent_is_never_made_to_offer_more_than_a_few_keys() {
    let host = Sshd::start("127.0.0.38");
    let agent = Agent::start();
    for index in 0..8 {
        agent.add(&new_key(&host, &format!("other{index}"), ""));
    }
    let options = ConnectOptions {
        agent_socket: Some(agent.socket()),
        ..options_for(&host)
    };
    let error = failure(options, &nameless(&host));
    assert!(
        error.to_string().contains("3 keys of the SSH agent"),
        "{error}"
    );
}

#[test]
fn agent_that_does_not_answer_ends_with_the_login_timeout() {
    let host = Sshd::start("127.0.0.38");
    let socket = host.private_dir().join("agent");
    let _silent = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let options = ConnectOptions {
        agent_socket: Some(socket),
        login_timeout: Duration::from_secs(1),
        ..options_for(&host)
    };
    let started = Instant::now();
    let error = failure(options, &nameless(&host));
    assert!(matches!(error, TransportError::Timeout { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn usual_key_of_the_home_folder_logs_in_when_nothing_is_named() {
    let host = Sshd::start("127.0.0.39");
    let home = host.private_dir().join("controller");
    fs::create_dir_all(home.join(".ssh")).expect("our folder");
    fs::copy(host.identity_file(), home.join(".ssh/id_ed25519")).expect("our folder");
    let options = ConnectOptions {
        home: Some(home),
        agent_socket: Some("/nonexistent/agent".into()),
        ..options_for(&host)
    };
    assert_works(options, &nameless(&host));
}

#[test]
fn nothing_to_try_is_said() {
    let host = Sshd::start("127.0.0.39");
    let error = failure(options_for(&host), &nameless(&host));
    let expected = format!("login as `{}` refused (nothing to try)", host.user());
    assert_eq!(error.to_string(), expected);
}

/// Makes a key that the host does not know.
fn new_key(host: &Host, name: &str, passphrase: &str) -> std::path::PathBuf {
    let path = host.private_dir().join(name);
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", passphrase, "-f"])
        .arg(&path));
    path
}

#[test]
fn key_with_a_passphrase_is_explained_and_taken_from_the_agent() {
    let host = Sshd::start("127.0.0.40");
    let encrypted = host.private_dir().join("encrypted");
    fs::copy(host.identity_file(), &encrypted).expect("our folder");
    run(Command::new("ssh-keygen")
        .args(["-q", "-p", "-P", "", "-N", "a passphrase", "-f"])
        .arg(&encrypted));
    let mut config = host.to_config();
    config.auth.identity_file = Some(LocalPath::new(&encrypted));
    let error = failure(options_for(&host), &config);
    let text = error.to_string();
    assert!(matches!(error, TransportError::Credential { .. }), "{text}");
    assert!(text.contains("protected by a passphrase"), "{text}");
    let agent = Agent::start();
    agent.add(&host.identity_file());
    let options = ConnectOptions {
        agent_socket: Some(agent.socket()),
        ..options_for(&host)
    };
    assert_works(options, &config);
}

#[test]
fn key_file_that_cannot_be_used_is_named_with_the_reason() {
    let host = Sshd::start("127.0.0.40");
    let folder = host.private_dir();
    fs::write(folder.join("text"), "hello").expect("our folder");
    for (name, reason) in [
        ("missing", "no such file or directory"),
        ("client_key.pub", "it is the public half"),
        ("text", "it is not a private key"),
        ("home", "it is not a regular file"),
    ] {
        let path = folder.join(name);
        let mut config = host.to_config();
        config.auth.identity_file = Some(LocalPath::new(&path));
        let error = failure(options_for(&host), &config);
        let expected = format!("cannot use key file {}: {reason}", path.display());
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn rsa_and_ecdsa_keys_of_either_side_work() {
    for (address, host_key_type) in [("127.0.0.41", "rsa"), ("127.0.0.42", "ecdsa")] {
        let host = Sshd::start_with(
            address,
            &SshdOptions {
                host_key_type,
                ..SshdOptions::default()
            },
        );
        let key = host.private_dir().join("own");
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", host_key_type, "-m", "PEM", "-N", "", "-f"])
            .arg(&key));
        let public = fs::read(key.with_extension("pub")).expect("our folder");
        fs::write(host.private_dir().join("authorized_keys"), public).expect("our folder");
        let mut config = host.to_config();
        config.auth.identity_file = Some(LocalPath::new(key));
        assert_works(options_for(&host), &config);
    }
}

#[test]
fn unknown_host_key_is_refused_before_anything_is_tried() {
    let host = Sshd::start("127.0.0.43");
    let options = ConnectOptions::new(host.private_dir().join("no-such-file"));
    let error = failure(options, &host.to_config());
    let TransportError::UnknownHostKey { fingerprint, .. } = &error else {
        panic!("{error}");
    };
    let listed = run(Command::new("ssh-keygen")
        .arg("-lf")
        .arg(host.private_dir().join("host_key.pub")));
    assert_eq!(listed.split(' ').nth(1), Some(fingerprint.as_str()));
    assert!(!host.log().contains("publickey"), "{}", host.log());
}

#[test]
fn changed_and_revoked_host_keys_are_refused() {
    let host = Sshd::start("127.0.0.44");
    let other =
        fs::read_to_string(new_key(&host, "other", "").with_extension("pub")).expect("our folder");
    let line = format!("[{}]:{} {other}", host.address, host.port);
    let options = ConnectOptions::new(write_known_hosts(&host, &line));
    let error = failure(options, &host.to_config());
    assert!(
        matches!(error, TransportError::HostKeyChanged { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("known_hosts:1"), "{error}");
    let lines = format!("{0}@revoked {0}", host.known_hosts_line());
    let options = ConnectOptions::new(write_known_hosts(&host, &lines));
    let error = failure(options, &host.to_config());
    assert!(
        matches!(error, TransportError::HostKeyRevoked { .. }),
        "{error}"
    );
}

#[test]
fn hashed_known_hosts_are_read() {
    let host = Sshd::start("127.0.0.45");
    let options = options_for(&host);
    run(Command::new("ssh-keygen")
        .args(["-q", "-H", "-f"])
        .arg(&options.known_hosts_path));
    let text = fs::read_to_string(&options.known_hosts_path).expect("our folder");
    assert!(text.starts_with("|1|"), "{text}");
    assert_works(options, &host.to_config());
}

#[test]
fn server_with_several_keys_shows_the_one_that_is_known() {
    let host = Sshd::start("127.0.0.46");
    let second = host.private_dir().join("second_host_key");
    let host = {
        // A server that has an ed25519 key, which would be preferred, and an ECDSA key.
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ecdsa", "-N", "", "-f"])
            .arg(&second));
        let mut host = host;
        let config = host.private_dir().join("sshd_config");
        let text = fs::read_to_string(&config).expect("our folder");
        fs::write(&config, format!("{text}HostKey {}\n", second.display())).expect("our folder");
        host.restart();
        host
    };
    let key = fs::read_to_string(second.with_extension("pub")).expect("our folder");
    let line = format!("[{}]:{} {key}", host.address, host.port);
    let options = ConnectOptions::new(write_known_hosts(&host, &line));
    assert_works(options, &host.to_config());
}

#[test]
fn fetched_key_can_be_recorded_and_then_the_login_works() {
    let host = Sshd::start("127.0.0.47");
    let path = host.private_dir().join("ssh/known_hosts");
    let connector = Libssh2Connector::new(ConnectOptions::new(&path));
    let config = host.to_config();
    let key = connector.fetch_host_key(&config).expect("it answers");
    assert_eq!(key.to_openssh(), host.host_key());
    assert!(known_hosts::append(&path, &config, &key).expect("written"));
    let known = KnownHosts::load(&path).expect("readable");
    assert_eq!(known.check(&host.address, host.port, &key), Verdict::Match);
    // The same connector: it must see that the file has changed.
    connector.connect(&config).expect("is known now");
}

#[test]
fn server_that_never_greets_ends_with_the_connect_timeout() {
    let host = Sshd::start("127.0.0.48");
    let silent = TcpListener::bind("127.0.0.48:0").expect("a port");
    let mut config = host.to_config();
    config.port = silent.local_addr().expect("a port").port();
    let options = ConnectOptions {
        connect_timeout: Duration::from_secs(1),
        ..options_for(&host)
    };
    let started = Instant::now();
    let error = failure(options, &config);
    assert!(
        matches!(
            error,
            TransportError::Timeout {
                setting: "connect_timeout",
                ..
            }
        ),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn login_that_drags_on_ends_with_the_login_timeout() {
    // sshd waits for this command before it decides about the key.
    let host = Sshd::start_with(
        "127.0.0.49",
        &SshdOptions {
            config: vec![
                "AuthorizedKeysCommand /bin/sleep 5".to_owned(),
                "AuthorizedKeysCommandUser root".to_owned(),
                "AuthorizedKeysFile none".to_owned(),
            ],
            ..SshdOptions::default()
        },
    );
    let options = ConnectOptions {
        login_timeout: Duration::from_secs(1),
        ..options_for(&host)
    };
    let started = Instant::now();
    let error = failure(options, &host.to_config());
    assert!(
        matches!(
            error,
            TransportError::Timeout {
                setting: "login_timeout",
                ..
            }
        ),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[test]
fn port_where_nobody_listens_is_unreachable_at_once() {
    let mut host = Sshd::start("127.0.0.50");
    host.stop();
    let error = failure(options_for(&host), &host.to_config());
    let expected = format!(
        "cannot connect to {}:{}: connection refused",
        host.address, host.port
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn name_that_does_not_resolve_is_told_apart() {
    let host = Sshd::start("127.0.0.50");
    let mut config = host.to_config();
    config.address = "no-such-host.invalid".to_owned();
    let error = failure(options_for(&host), &config);
    assert!(
        matches!(error, TransportError::UnknownAddress { .. }),
        "{error}"
    );
}

#[test]
fn server_that_speaks_another_protocol_is_unreachable() {
    use std::io::Write as _;
    let host = Sshd::start("127.0.0.51");
    let other = TcpListener::bind("127.0.0.51:0").expect("a port");
    let mut config = host.to_config();
    config.port = other.local_addr().expect("a port").port();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut socket, _) = other.accept().expect("a caller");
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .expect("sent");
        });
        let error = failure(options_for(&host), &config);
        assert!(
            matches!(error, TransportError::Unreachable { .. }),
            "{error}"
        );
    });
}

#[test]
fn cipher_that_is_not_built_in_is_refused_with_those_that_are() {
    let host = Sshd::start("127.0.0.51");
    let options = ConnectOptions {
        ciphers: Some(vec!["rot13".to_owned()]),
        ..options_for(&host)
    };
    let error = failure(options, &host.to_config());
    let TransportError::UnsupportedAlgorithms { wanted, supported } = &error else {
        panic!("{error}");
    };
    assert_eq!(wanted, "rot13");
    assert!(supported.contains("aes128-ctr"), "{supported}");
}

#[test]
fn host_without_a_common_cipher_says_what_it_was_offered_and_which_setting_says_so() {
    let host = Sshd::start_with(
        "127.0.0.57",
        &SshdOptions {
            config: vec!["Ciphers aes256-gcm@openssh.com".to_owned()],
            ..SshdOptions::default()
        },
    );
    let options = ConnectOptions {
        ciphers: Some(vec!["aes128-cbc".to_owned(), "aes128-ctr".to_owned()]),
        ..options_for(&host)
    };
    let error = failure(options, &host.to_config());
    let told = error.to_string();
    assert!(
        told.contains("no cipher") && told.contains("aes128-cbc, aes128-ctr"),
        "{told}"
    );
    let help = miette::Diagnostic::help(&error)
        .expect("a help")
        .to_string();
    assert!(help.contains("remove `ciphers`"), "{help}");
}

#[test]
fn server_that_has_only_what_is_obsolete_is_called_old() {
    let host = Sshd::start_with(
        "127.0.0.58",
        &SshdOptions {
            config: vec!["Ciphers aes128-cbc".to_owned()],
            ..SshdOptions::default()
        },
    );
    let error = failure(options_for(&host), &host.to_config());
    assert!(error.to_string().contains("no cipher"), "{error}");
    let help = miette::Diagnostic::help(&error)
        .expect("a help")
        .to_string();
    assert!(
        help.contains("very old") && !help.contains("`ciphers`"),
        "{help}"
    );
}

#[test]
fn host_without_a_common_message_authentication_is_not_taken_for_one_that_is_down() {
    let host = Sshd::start_with(
        "127.0.0.59",
        &SshdOptions {
            config: vec![
                "Ciphers aes128-ctr".to_owned(),
                "MACs umac-64@openssh.com".to_owned(),
            ],
            ..SshdOptions::default()
        },
    );
    let error = failure(options_for(&host), &host.to_config());
    assert!(
        error.to_string().contains("no message authentication"),
        "{error}"
    );
}

#[test]
fn host_that_wants_two_keys_gets_them_from_the_agent() {
    let host = Sshd::start_with(
        "127.0.0.52",
        &SshdOptions {
            config: vec!["AuthenticationMethods publickey,publickey".to_owned()],
            ..SshdOptions::default()
        },
    );
    let second = new_key(&host, "second", "");
    let keys = host.private_dir().join("authorized_keys");
    let public = fs::read_to_string(second.with_extension("pub")).expect("our folder");
    fs::write(keys, host.client_key() + &public).expect("our folder");
    let agent = Agent::start();
    agent.add(&host.identity_file());
    let options = || ConnectOptions {
        agent_socket: Some(agent.socket()),
        ..options_for(&host)
    };
    // One alone is not enough, and the key was good all the same.
    let error = failure(options(), &nameless(&host));
    assert!(error.to_string().contains("1 key of the"), "{error}");
    assert!(
        matches!(error, TransportError::LoginRefused { .. }),
        "{error}"
    );
    agent.add(&second);
    assert_works(options(), &nameless(&host));
}

#[test]
fn host_that_wants_key_and_password_gets_both_at_one_go() {
    let host = Sshd::start_with(
        "127.0.0.53",
        &SshdOptions {
            config: vec!["AuthenticationMethods publickey,password".to_owned()],
            ..SshdOptions::default()
        },
    );
    let Some(password) = password(&host) else {
        return;
    };
    let mut config = host.to_config();
    config.auth.passkey = Some(Passkey::Literal(SecretString::from(password)));
    assert_works(options_for(&host), &config);
    assert_eq!(host.log().matches("Partial publickey").count(), 1);
}

#[test]
fn key_for_a_host_that_takes_only_passwords_gives_way_to_the_password() {
    let host = Sshd::start_with(
        "127.0.0.54",
        &SshdOptions {
            config: vec!["PubkeyAuthentication no".to_owned()],
            ..SshdOptions::default()
        },
    );
    let error = failure(options_for(&host), &host.to_config());
    let TransportError::LoginRefused { cure, .. } = &error else {
        panic!("{error}");
    };
    assert!(cure.contains("the host offers password"), "{cure}");
    let Some(password) = password(&host) else {
        return;
    };
    let mut config = host.to_config();
    config.auth.passkey = Some(Passkey::Literal(SecretString::from(password)));
    assert_works(options_for(&host), &config);
}

#[test]
fn host_that_hangs_up_on_the_first_wrong_key_has_refused_it() {
    let host = Sshd::start_with(
        "127.0.0.55",
        &SshdOptions {
            config: vec!["MaxAuthTries 1".to_owned()],
            ..SshdOptions::default()
        },
    );
    let mut config = host.to_config();
    config.auth.identity_file = Some(LocalPath::new(new_key(&host, "other", "")));
    let error = failure(options_for(&host), &config);
    assert!(
        matches!(error, TransportError::LoginRefused { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("tried key"), "{error}");
}

#[test]
fn line_that_breaks_during_a_login_is_not_a_refusal() {
    // sshd waits for this command before it decides about the key.
    let host = Sshd::start_with(
        "127.0.0.56",
        &SshdOptions {
            config: vec![
                "AuthorizedKeysCommand /bin/sleep 5".to_owned(),
                "AuthorizedKeysCommandUser root".to_owned(),
                "AuthorizedKeysFile none".to_owned(),
            ],
            ..SshdOptions::default()
        },
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(1));
            host.cut_connections();
        });
        let error = failure(options_for(&host), &host.to_config());
        assert!(matches!(error, TransportError::Broken { .. }), "{error}");
    });
}

#[test]
fn rsa_key_of_the_agent_logs_in() {
    let host = Sshd::start("127.0.0.57");
    let key = host.private_dir().join("rsa");
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-N", "", "-f"])
        .arg(&key));
    let public = fs::read(key.with_extension("pub")).expect("our folder");
    fs::write(host.private_dir().join("authorized_keys"), public).expect("our folder");
    let agent = Agent::start();
    agent.add(&key);
    let options = || ConnectOptions {
        agent_socket: Some(agent.socket()),
        ..options_for(&host)
    };
    // What the host says about signatures must have come each time.
    for _ in 0..5 {
        assert_works(options(), &nameless(&host));
    }
    // Also behind a key of another kind.
    let mut config = host.to_config();
    config.auth.identity_file = Some(LocalPath::new(&key));
    assert_works(options_for(&host), &config);
}
