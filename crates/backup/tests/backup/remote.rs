//! A REST server (rclone's), and rclone as we start it ourselves.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use trueup_backup::protocol::{Done, Fault};

use crate::bench_data::mixed;
use crate::lab::{Lab, backup, same};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// `rclone serve restic` over the lab's repository; its URL.
fn serve(lab: &Lab, more: &[&str]) -> (Server, String) {
    fs::create_dir_all(lab.path("repo")).unwrap();
    let mut command = Command::new("rclone");
    command.args(["serve", "restic", "--addr", "127.0.0.1:0"]).args(more).arg(lab.path("repo"));
    command.env("RCLONE_CONFIG", lab.path("rclone.conf")).stderr(Stdio::piped());
    let mut child = command.spawn().expect("rclone is installed");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let url = lines
        .find_map(|line| {
            let line = line.unwrap();
            let (_, url) = line.split_once("Serving restic REST API on ")?;
            Some(url.trim().trim_matches(['[', ']']).to_owned())
        })
        .unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    (Server(child), url)
}

#[test]
fn a_rest_server_takes_and_gives_back() {
    let mut lab = Lab::new();
    let (server, url) = serve(&lab, &["--user", "u", "--pass", "p"]);
    lab.target = json!({ "rest": { "url": url } });
    let fault = lab.bad(json!({ "init": {} }));
    assert!(matches!(fault, Fault::Refused { .. }), "{fault}");
    fs::write(lab.path("login"), "u:p\n").unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(lab.path("login"), private).unwrap();
    lab.target = json!({ "rest": { "url": url, "credentials": lab.path("login") } });
    lab.good(json!({ "init": {} }));
    let source = lab.path("source");
    mixed(&source, 10, 40);
    lab.save(&source);
    lab.save(&source);
    lab.good(json!({ "forget": { "keep": { "last": 1 } } }));
    lab.good(json!({ "prune": {} }));
    let done = lab.good(json!({ "check": { "read": "all" } })).done;
    assert!(matches!(&done, Done::Check(checked) if checked.error_count == 0), "{done:?}");
    lab.restore("ours");
    same(&source, &lab.path("ours").join(source.strip_prefix("/").unwrap()));
    // The same files for restic, without the server.
    lab.restic_good(&["check", "--read-data"]);
    drop(server);
    let fault = lab.bad(backup(&source));
    assert!(matches!(fault, Fault::RepositoryOffline { .. }) && fault.transient(), "{fault}");
}

#[test]
fn a_server_that_only_takes_refuses_a_forget_and_keeps_all() {
    let mut lab = Lab::new();
    let (_server, url) = serve(&lab, &["--append-only"]);
    lab.target = json!({ "rest": { "url": url } });
    lab.good(json!({ "init": {} }));
    let source = lab.path("source");
    mixed(&source, 2, 41);
    lab.save(&source);
    fs::write(source.join("more"), "more").unwrap();
    lab.save(&source);
    let fault = lab.bad(json!({ "forget": { "keep": { "last": 1 } } }));
    assert!(matches!(fault, Fault::Refused { .. }), "{fault}");
    assert_eq!(crate::interop::snapshots(&lab).len(), 2);
}

#[test]
fn rclone_is_started_and_ends_with_the_worker() {
    let mut lab = Lab::new();
    // Nobody answers there; and a proxy must not see the login.
    lab.env = vec![("HTTP_PROXY", "http://127.0.0.1:9"), ("http_proxy", "http://127.0.0.1:9")];
    lab.env.extend([("NO_PROXY", ""), ("no_proxy", "")]);
    fs::write(lab.path("rclone.conf"), "").unwrap();
    let remote = lab.path("repo").to_str().unwrap().to_owned();
    lab.target = json!({ "rclone": { "remote": remote, "config": lab.path("rclone.conf") } });
    lab.good(json!({ "init": {} }));
    let source = lab.path("source");
    mixed(&source, 5, 42);
    lab.save(&source);
    lab.restic_good(&["check", "--read-data"]);
    lab.restore("ours");
    same(&source, &lab.path("ours").join(source.strip_prefix("/").unwrap()));
    let left = Command::new("pgrep").args(["-f", &remote]).output().unwrap();
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    assert_eq!(left.trim(), "", "rclone is left");
}

#[test]
fn a_server_that_goes_away_in_mid_work_and_comes_back_loses_nothing() {
    let mut lab = Lab::new();
    let (server, url) = serve(&lab, &[]);
    lab.target = json!({ "rest": { "url": url } });
    lab.good(json!({ "init": {} }));
    let source = lab.path("source");
    mixed(&source, 40, 43);
    let mut request = lab.request(&backup(&source));
    request["limits"]["upload_kib"] = json!(8000);
    let mut child = lab.start_with(&request);
    crate::faults::under_way(&mut child, "backing up");
    drop(server);
    let fault = crate::lab::answer(child).unwrap_err();
    assert!(matches!(fault, Fault::RepositoryOffline { .. }) && fault.transient(), "{fault}");
    let (_server, url) = serve(&lab, &[]);
    lab.target = json!({ "rest": { "url": url } });
    assert!(crate::interop::snapshots(&lab).is_empty());
    lab.save(&source);
    lab.good(json!({ "prune": {} }));
    lab.restic_good(&["check", "--read-data"]);
}

#[test]
fn a_server_that_goes_away_in_mid_check_is_no_damage() {
    let mut lab = Lab::new();
    let (server, url) = serve(&lab, &[]);
    lab.target = json!({ "rest": { "url": url } });
    lab.good(json!({ "init": {} }));
    let source = lab.path("source");
    mixed(&source, 40, 44);
    lab.save(&source);
    let mut request = lab.request(&json!({ "check": { "read": "all" } }));
    request["limits"]["download_kib"] = json!(4000);
    let mut child = lab.start_with(&request);
    crate::faults::under_way(&mut child, "reading pack data");
    drop(server);
    let fault = crate::lab::answer(child).unwrap_err();
    assert!(matches!(fault, Fault::RepositoryOffline { .. }) && fault.transient(), "{fault}");
    // It is there again, and nothing was ever wrong with it.
    let (_server, url) = serve(&lab, &[]);
    lab.target = json!({ "rest": { "url": url } });
    let done = lab.good(json!({ "check": { "read": "all" } })).done;
    assert!(matches!(&done, Done::Check(checked) if checked.error_count == 0), "{done:?}");
}

/// Runs it to its end.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until somebody listens.
fn listening(port: u16, server: &mut Server) {
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(server.0.try_wait().unwrap().is_none(), "the server ended");
        std::thread::yield_now();
    }
}

/// OpenSSH's server on a port of its own, for this user and a key of its own; the port.
fn sshd(lab: &Lab) -> (Server, u16) {
    for key in ["host_key", "user_key"] {
        let mut command = Command::new("ssh-keygen");
        run(command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(lab.path(key)));
    }
    fs::copy(lab.path("user_key.pub"), lab.path("authorized")).unwrap();
    // Where sshd locks its unprivileged half into; Debian makes it when the service starts.
    fs::create_dir_all("/run/sshd").ok();
    let port = free_port();
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f", "/dev/null", "-p", &port.to_string()]);
    let option = |name: &str, value: &str| format!("{name}={value}");
    for option in [
        option("HostKey", lab.path("host_key").to_str().unwrap()),
        option("AuthorizedKeysFile", lab.path("authorized").to_str().unwrap()),
        option("PidFile", "none"),
        option("ListenAddress", "127.0.0.1"),
        option("StrictModes", "no"),
        option("UsePAM", "no"),
        option("PermitRootLogin", "yes"),
        option("Subsystem", "sftp internal-sftp"),
    ] {
        command.args(["-o", &option]);
    }
    let mut server = Server(command.stderr(Stdio::null()).spawn().expect("sshd is installed"));
    listening(port, &mut server);
    (server, port)
}

#[test]
fn an_sftp_server_takes_and_gives_back_and_an_impostor_gets_nothing() {
    let mut lab = Lab::new();
    let (server, port) = sshd(&lab);
    let user = run(Command::new("id").arg("-un"));
    let key = fs::read_to_string(lab.path("host_key.pub")).unwrap();
    fs::write(lab.path("known"), format!("[127.0.0.1]:{port} {key}")).unwrap();
    let config = format!(
        "[there]\ntype = sftp\nhost = 127.0.0.1\nport = {port}\nuser = {}\nkey_file = {}\n\
         known_hosts_file = {}\n",
        user.trim(),
        lab.path("user_key").display(),
        lab.path("known").display()
    );
    fs::write(lab.path("rclone.conf"), config).unwrap();
    let remote = format!("there:{}", lab.path("repo").display());
    lab.target = json!({ "rclone": { "remote": remote, "config": lab.path("rclone.conf") } });
    let missing = lab.bad(json!({ "snapshots": {} }));
    assert!(matches!(missing, Fault::RepositoryMissing { .. }), "{missing}");
    lab.good(json!({ "init": {} }));
    let source = lab.path("source");
    mixed(&source, 5, 44);
    lab.save(&source);
    lab.good(json!({ "check": { "read": "all" } }));
    lab.restore("ours");
    same(&source, &lab.path("ours").join(source.strip_prefix("/").unwrap()));
    lab.restic_good(&["check", "--read-data"]);
    // Another host key at the same address.
    let other = fs::read_to_string(lab.path("user_key.pub")).unwrap();
    fs::write(lab.path("known"), format!("[127.0.0.1]:{port} {other}")).unwrap();
    let fault = lab.bad(backup(&source));
    assert!(matches!(fault, Fault::Refused { .. }) && !fault.transient(), "{fault}");
    fs::write(lab.path("known"), format!("[127.0.0.1]:{port} {key}")).unwrap();
    drop(server);
    let fault = lab.bad(backup(&source));
    assert!(matches!(fault, Fault::RepositoryOffline { .. }), "{fault}");
}

/// An S3 server (moto), where one is installed; its port.
fn s3() -> Option<(Server, u16)> {
    let port = free_port();
    let mut command = Command::new("moto_server");
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    let mut server = Server(child);
    listening(port, &mut server);
    Some((server, port))
}

#[test]
fn an_s3_server_takes_and_gives_back() {
    let mut lab = Lab::new();
    let Some((server, port)) = s3() else {
        eprintln!("moto_server is not installed (PyPI: moto[server]): S3 is not tested");
        return;
    };
    let config = format!(
        "[there]\ntype = s3\nprovider = Other\nendpoint = http://127.0.0.1:{port}\n\
         access_key_id = a\nsecret_access_key = b\nregion = us-east-1\n"
    );
    fs::write(lab.path("rclone.conf"), config).unwrap();
    let mut command = Command::new("rclone");
    command.arg("--config").arg(lab.path("rclone.conf")).args(["mkdir", "there:bucket"]);
    run(command.env_remove("AWS_CA_BUNDLE"));
    let target = json!({ "remote": "there:bucket/host", "config": lab.path("rclone.conf") });
    lab.target = json!({ "rclone": target });
    lab.good(json!({ "init": {} }));
    let source = lab.path("source");
    mixed(&source, 1, 45);
    lab.save(&source);
    fs::write(source.join("more"), "more").unwrap();
    lab.save(&source);
    lab.good(json!({ "forget": { "keep": { "last": 1 } } }));
    lab.good(json!({ "prune": {} }));
    let done = lab.good(json!({ "check": { "read": "all" } })).done;
    assert!(matches!(&done, Done::Check(checked) if checked.error_count == 0), "{done:?}");
    lab.restore("ours");
    same(&source, &lab.path("ours").join(source.strip_prefix("/").unwrap()));
    // A restic that knows S3 by itself restores it too.
    let mut restic = Command::new("restic");
    let url = format!("s3:http://127.0.0.1:{port}/bucket/host");
    restic.args(["--no-cache", "-r", &url, "check", "--read-data", "--password-file"]);
    restic.arg(lab.path("key")).env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
    run(&mut restic);
    drop(server);
    let fault = lab.bad(backup(&source));
    assert!(matches!(fault, Fault::RepositoryOffline { .. }), "{fault}");
}

fn private(path: &std::path::Path, text: &str) {
    fs::write(path, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(path, mode).unwrap();
}

/// What everybody on the host may read of all processes.
fn arguments() -> String {
    let processes = fs::read_dir("/proc").unwrap();
    let read =
        |entry: std::io::Result<fs::DirEntry>| fs::read(entry.ok()?.path().join("cmdline")).ok();
    processes.filter_map(read).map(|text| String::from_utf8_lossy(&text).into_owned()).collect()
}

#[test]
fn an_sftp_server_is_described_without_rclones_own_files() {
    let mut lab = Lab::new();
    let (server, port) = sshd(&lab);
    let user = run(Command::new("id").arg("-un"));
    let host_key = fs::read_to_string(lab.path("host_key.pub")).unwrap();
    let host_key: Vec<_> = host_key.split_whitespace().take(2).collect();
    let there = |key: &str, identity: &str| {
        json!({ "sftp": {
            "host": "127.0.0.1",
            "port": port,
            "user": user.trim(),
            "path": lab.path("repo"),
            "identity": lab.path(identity),
            "host_keys": [key],
        } })
    };
    let right = there(&host_key.join(" "), "user_key");
    let impostor = fs::read_to_string(lab.path("user_key.pub")).unwrap();
    let impostor = there(impostor.trim(), "user_key");
    let stranger = there(&host_key.join(" "), "host_key");
    lab.target = right.clone();
    lab.good(json!({ "init": {} }));
    let source = lab.path("source");
    mixed(&source, 5, 46);
    lab.save(&source);
    lab.restic_good(&["check", "--read-data"]);
    for (target, why) in [(impostor, "another key"), (stranger, "does not accept the key")] {
        lab.target = target;
        let fault = lab.bad(backup(&source));
        assert!(matches!(fault, Fault::Refused { .. }), "{fault}");
        assert!(fault.to_string().contains(why) && !fault.transient(), "{fault}");
    }
    lab.target = right;
    lab.restore("ours");
    same(&source, &lab.path("ours").join(source.strip_prefix("/").unwrap()));
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(lab.path("user_key"), open).unwrap();
    let fault = lab.bad(backup(&source));
    assert!(matches!(fault, Fault::KeyUnreadable { .. }), "{fault}");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(lab.path("user_key"), private).unwrap();
    drop(server);
    let fault = lab.bad(backup(&source));
    assert!(matches!(fault, Fault::RepositoryOffline { .. }) && fault.transient(), "{fault}");
}

#[test]
fn a_program_that_is_not_installed_is_named() {
    let mut lab = Lab::new();
    lab.env = vec![("PATH", "/nowhere")];
    private(&lab.path("login"), "id:secret\n");
    lab.target = json!({ "s3": {
        "endpoint": "http://127.0.0.1:1", "bucket": "bucket", "credentials": lab.path("login"),
    } });
    let fault = lab.bad(json!({ "init": {} }));
    let Fault::HelperMissing { at, .. } = &fault else { panic!("{fault}") };
    assert_eq!(at, "s3:http://127.0.0.1:1/bucket");
    assert!(fault.to_string().contains("apt-get install") && !fault.transient(), "{fault}");
}

#[test]
fn an_s3_secret_is_in_no_argument_and_in_nothing_that_is_said() {
    const SECRET: &str = "canary-of-the-secret";
    let mut lab = Lab::new();
    let Some((server, port)) = s3() else {
        eprintln!("moto_server is not installed (PyPI: moto[server]): S3 is not tested");
        return;
    };
    let mut make = Command::new("rclone");
    make.args(["--config", "", "--s3-provider", "Other", "--s3-endpoint"]);
    make.arg(format!("http://127.0.0.1:{port}")).args(["mkdir", ":s3:bucket"]);
    make.env("RCLONE_S3_ACCESS_KEY_ID", "a").env("RCLONE_S3_SECRET_ACCESS_KEY", SECRET);
    run(make.env_remove("AWS_CA_BUNDLE"));
    private(&lab.path("login"), &format!("a:{SECRET}\n"));
    lab.target = json!({ "s3": {
        "endpoint": format!("http://127.0.0.1:{port}"),
        "region": "us-east-1",
        "bucket": "bucket",
        "prefix": "hosts/one",
        "credentials": lab.path("login"),
    } });
    lab.good(json!({ "init": {} }));
    let source = lab.path("source");
    mixed(&source, 2, 47);
    let mut request = lab.request(&backup(&source));
    request["limits"]["upload_kib"] = json!(2000);
    let mut child = lab.start_with(&request);
    crate::faults::under_way(&mut child, "backing up");
    let seen = arguments();
    assert!(seen.contains("trueup:bucket/hosts/one") && !seen.contains(SECRET));
    crate::lab::answer(child).unwrap();
    lab.restore("ours");
    same(&source, &lab.path("ours").join(source.strip_prefix("/").unwrap()));
    drop(server);
    let fault = lab.bad(backup(&source));
    assert!(matches!(fault, Fault::RepositoryOffline { .. }), "{fault}");
    assert!(!format!("{fault:?}").contains(SECRET), "{fault}");
}

#[test]
fn a_server_is_trusted_by_the_certificate_that_is_named() {
    let mut lab = Lab::new();
    let (cert, key) = (lab.path("cert.pem"), lab.path("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]);
    openssl.args(["-days", "2", "-subj", "/CN=there", "-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert));
    let (cert_text, key_text) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let (_server, url) = serve(&lab, &["--cert", cert_text, "--key", key_text]);
    assert!(url.starts_with("https://"), "{url}");
    lab.target = json!({ "rest": { "url": url } });
    let fault = lab.bad(json!({ "init": {} }));
    assert!(matches!(fault, Fault::RepositoryOffline { .. }), "{fault}");
    assert!(fault.to_string().contains("certificate"), "{fault}");
    lab.target = json!({ "rest": { "url": url, "ca": cert } });
    lab.good(json!({ "init": {} }));
    let source = lab.path("source");
    mixed(&source, 1, 48);
    lab.save(&source);
    lab.restic_good(&["check", "--read-data"]);
}
