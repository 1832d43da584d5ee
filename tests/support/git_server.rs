//! Real Git servers on the loopback: lighttpd with `git http-backend` over TLS, OpenSSH, and one
//! that never answers. Each ends with the value that started it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A child process that is ended by its id on drop.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is reaped here.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Whether the program is installed; the tests that need it say so and pass without it.
pub(crate) fn have(program: &str) -> bool {
    let found = std::env::split_paths("/usr/sbin:/usr/bin:/usr/local/bin:/usr/lib/lighttpd")
        .any(|directory| directory.join(program).exists());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(mut command: Command, port: u16) -> Server {
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    let mut server = Server { child, port };
    let end = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = server.child.try_wait().unwrap();
        assert!(ended.is_none(), "the server ended: {ended:?}");
        assert!(Instant::now() < end, "the server does not listen");
        std::thread::yield_now();
    }
    server
}

pub(crate) fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An https server for the repositories below `root`, and what a client needs to know.
pub(crate) struct Https {
    pub(crate) server: Server,
    pub(crate) ca: PathBuf,
    pub(crate) user: &'static str,
    pub(crate) token: &'static str,
    _dir: tempfile::TempDir,
}

impl Https {
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/git/origin.git", self.server.port)
    }
}

/// An authority and a certificate of it for `localhost`; gives the authority's file.
fn certificate(dir: &Path) -> PathBuf {
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (ca_key, ca, key, cert) = (at("ca.key"), at("ca.pem"), at("key.pem"), at("cert.pem"));
    let request = |subject: &str, key: &str, out: &str, extra: &[&str]| {
        let mut args = vec!["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"];
        args.extend_from_slice(&["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        args.extend_from_slice(&["-subj", subject, "-keyout", key, "-out", out]);
        args.extend_from_slice(extra);
        run("openssl", &args);
    };
    request("/CN=test authority", &ca_key, &ca, &[]);
    let names = ["-addext", "subjectAltName=DNS:localhost"];
    let leaf = ["-addext", "basicConstraints=critical,CA:FALSE"];
    let by = ["-CA", &ca, "-CAkey", &ca_key];
    request(
        "/CN=localhost",
        &key,
        &cert,
        &[names, leaf].concat().into_iter().chain(by).collect::<Vec<_>>(),
    );
    let joined = fs::read_to_string(&key).unwrap() + &fs::read_to_string(&cert).unwrap();
    fs::write(dir.join("both.pem"), joined).unwrap();
    PathBuf::from(ca)
}

/// Starts lighttpd with TLS and basic auth.
pub(crate) fn https(root: &Path) -> Https {
    let dir = tempfile::tempdir().unwrap();
    let (user, token) = ("x-access-token", "s3cr3t-t0ken-value");
    let ca = certificate(dir.path());
    fs::write(dir.path().join("users"), format!("{user}:{token}\n")).unwrap();
    let exec = Command::new("git").arg("--exec-path").output().unwrap();
    let exec = String::from_utf8(exec.stdout).unwrap();
    let port = free_port();
    let config = format!(
        r#"
server.document-root = "{root}"
server.bind = "127.0.0.1"
server.port = {port}
server.errorlog = "{dir}/error.log"
server.upload-dirs = ( "{dir}" )
server.modules = ( "mod_auth", "mod_authn_file", "mod_alias", "mod_setenv", "mod_cgi", "mod_openssl" )
ssl.engine = "enable"
ssl.pemfile = "{dir}/both.pem"
setenv.add-environment = ( "GIT_PROJECT_ROOT" => "{root}", "GIT_HTTP_EXPORT_ALL" => "1" )
alias.url = ( "/git" => "{exec}/git-http-backend" )
auth.backend = "plain"
auth.backend.plain.userfile = "{dir}/users"
auth.require = ( "/" => ( "method" => "basic", "realm" => "git", "require" => "valid-user" ) )
cgi.assign = ( "" => "" )
"#,
        root = root.display(),
        dir = dir.path().display(),
        exec = exec.trim(),
    );
    let path = dir.path().join("lighttpd.conf");
    fs::write(&path, config).unwrap();
    let mut command = Command::new("/usr/sbin/lighttpd");
    command.args(["-D", "-f", text(&path)]);
    Https { server: start(command, port), ca, user, token, _dir: dir }
}

/// An OpenSSH server for this user with one key of its own, and what a client needs.
pub(crate) struct Ssh {
    pub(crate) server: Server,
    pub(crate) identity: PathBuf,
    pub(crate) known_hosts: PathBuf,
    pub(crate) dir: tempfile::TempDir,
}

/// Starts sshd on the loopback.
pub(crate) fn ssh() -> Ssh {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["host", "client"] {
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", text(&at(name))]);
    }
    fs::copy(at("client.pub"), at("authorized")).unwrap();
    fs::set_permissions(at("authorized"), fs::Permissions::from_mode(0o600)).unwrap();
    let port = free_port();
    let host = fs::read_to_string(at("host.pub")).unwrap();
    let known = format!("[localhost]:{port} {host}");
    fs::write(at("known_hosts"), known).unwrap();
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {host}\nAuthorizedKeysFile {keys}\n\
         PidFile none\nUsePAM no\nPasswordAuthentication no\nStrictModes no\n\
         PermitRootLogin yes\nAcceptEnv GIT_PROTOCOL\n",
        host = at("host").display(),
        keys = at("authorized").display(),
    );
    fs::write(at("sshd_config"), config).unwrap();
    // sshd insists on this directory and does not make it itself.
    fs::create_dir_all("/run/sshd").ok();
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-f", text(&at("sshd_config")), "-E", text(&at("log"))]);
    Ssh {
        server: start(command, port),
        identity: at("client"),
        known_hosts: at("known_hosts"),
        dir,
    }
}

/// Accepts connections and never says a word, until dropped.
pub(crate) struct Silent {
    listener: TcpListener,
}

impl Silent {
    pub(crate) fn new() -> Self {
        // The kernel completes connections from the backlog without anybody accepting.
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }
}

/// Answers every request with a stream that says one more byte now and then and never ends, which
/// no limit on a single read ever notices.
pub(crate) struct Dripping {
    pub(crate) port: u16,
    /// Closed on drop, which ends the threads.
    _stop: mpsc::Sender<()>,
}

impl Dripping {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            let mut open: Vec<TcpStream> = Vec::new();
            listener.set_nonblocking(true).unwrap();
            while stopped.recv_timeout(Duration::from_millis(20))
                == Err(mpsc::RecvTimeoutError::Timeout)
            {
                if let Ok((mut stream, _)) = listener.accept() {
                    // A client takes an answer before its question for a fault.
                    assert_ne!(stream.read(&mut [0; 4_096]).unwrap(), 0);
                    let head = "HTTP/1.1 200 OK\r\nContent-Type: \
                         application/x-git-upload-pack-advertisement\r\n\r\nfff0";
                    stream.write_all(head.as_bytes()).unwrap();
                    open.push(stream);
                }
                open.retain_mut(|stream| stream.write_all(b"x").is_ok());
            }
        });
        Self { port, _stop: stop }
    }
}
