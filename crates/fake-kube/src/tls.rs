//! TLS with certificates that are made anew for each run, also some that are over.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Settings of `openssl ca`; the authority may sign what serves 127.0.0.1.
const SETTINGS: &str = "[ca]\ndefault_ca = d\n[d]\ndatabase = ./index\nserial = ./serial\nnew_certs_dir = .\ndefault_md = sha256\nunique_subject = no\npolicy = p\n[p]\ncommonName = supplied\n[leaf]\nsubjectAltName = IP:127.0.0.1\nbasicConstraints = critical,CA:FALSE\n[authority]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign\n[req]\ndistinguished_name = n\n[n]\n";
/// When what is valid begins and ends.
const VALID: (&str, &str) = ("20200101000000Z", "20990101000000Z");

/// An authority that signs what the servers of this process show.
struct Authority {
    folder: tempfile::TempDir,
    valid: OnceLock<Certificate>,
    /// Signing keeps a serial number in a file.
    one_at_a_time: Mutex<u32>,
}

fn ours() -> &'static Authority {
    static OURS: OnceLock<Authority> = OnceLock::new();
    OURS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("ca.cnf"), SETTINGS).unwrap();
        std::fs::write(at("index"), "").unwrap();
        std::fs::write(at("serial"), "01").unwrap();
        request(folder.path(), "authority", "/CN=fake-kube authority");
        sign(folder.path(), "authority", VALID, &["-selfsign", "-extensions", "authority"]);
        Authority { folder, valid: OnceLock::new(), one_at_a_time: Mutex::new(0) }
    })
}

/// The certificate of the authority that signs what is shown, as PEM.
pub fn authority() -> Vec<u8> {
    std::fs::read(ours().folder.path().join("authority.pem")).unwrap()
}

fn openssl(folder: &Path, args: &[&str]) {
    let said = Command::new("openssl").args(args).current_dir(folder).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// Makes a key, and asks for a certificate for it.
fn request(folder: &Path, name: &str, subject: &str) {
    let (key, out) = (format!("{name}.key"), format!("{name}.csr"));
    let args = "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config ca.cnf";
    let mut args: Vec<&str> = args.split(' ').collect();
    args.extend(["-keyout", &key, "-out", &out, "-subj", subject]);
    openssl(folder, &args);
}

/// The authority signs it, valid between two times.
fn sign(folder: &Path, name: &str, (from, until): (&str, &str), more: &[&str]) {
    let (request, out) = (format!("{name}.csr"), format!("{name}.pem"));
    let mut args = vec!["ca", "-batch", "-config", "ca.cnf", "-notext", "-keyfile"];
    args.extend(["authority.key", "-in", &request, "-out", &out]);
    args.extend(["-startdate", from, "-enddate", until]);
    args.extend(more);
    openssl(folder, &args);
}

/// A certificate for 127.0.0.1, with its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    pem: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// One that is valid for decades.
    pub fn valid() -> Self {
        ours().valid.get_or_init(|| Self::between(VALID.0, VALID.1)).clone()
    }

    /// One that was over long ago.
    pub fn expired() -> Self {
        Self::between("20200101000000Z", "20200102000000Z")
    }

    /// One that counts between two times, as `20200101000000Z`.
    pub fn between(from: &str, until: &str) -> Self {
        let mut count = ours().one_at_a_time.lock().unwrap();
        *count += 1;
        let (folder, name) = (ours().folder.path(), format!("leaf-{count}"));
        request(folder, &name, "/CN=fake-kube");
        sign(folder, &name, (from, until), &["-cert", "authority.pem", "-extensions", "leaf"]);
        let at = |end: &str| folder.join(format!("{name}.{end}"));
        Self { pem: at("pem"), key: at("key") }
    }

    /// It, as PEM, without its key.
    pub fn pem(&self) -> Vec<u8> {
        std::fs::read(&self.pem).unwrap()
    }

    fn config(&self) -> Arc<ServerConfig> {
        let chain = CertificateDer::pem_file_iter(&self.pem).unwrap();
        let key = PrivateKeyDer::from_pem_file(&self.key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        Arc::new(config)
    }
}

/// What is shown to who connects.
#[derive(Clone)]
pub(crate) struct Shown(Arc<Mutex<Arc<ServerConfig>>>);

impl Shown {
    pub(crate) fn new(certificate: &Certificate) -> Self {
        Self(Arc::new(Mutex::new(certificate.config())))
    }

    pub(crate) fn set(&self, certificate: &Certificate) {
        *self.0.lock().unwrap() = certificate.config();
    }
}

/// Connections whose TLS is established.
pub(crate) struct Listener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl Listener {
    pub(crate) fn new(listener: std::net::TcpListener, shown: Shown) -> Self {
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let (tell, ready) = mpsc::channel(64);
        drop(tokio::spawn(connections(listener, shown, tell)));
        Self { ready, address }
    }
}

/// Each handshake on a task of its own: one that is never finished keeps nobody else waiting.
async fn connections(
    listener: TcpListener,
    shown: Shown,
    tell: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    loop {
        let (stream, address) = listener.accept().await.unwrap();
        let acceptor = TlsAcceptor::from(shown.0.lock().unwrap().clone());
        let tell = tell.clone();
        drop(tokio::spawn(async move {
            // Who does not trust us hangs up, which is the point of some tests.
            if let Ok(stream) = acceptor.accept(stream).await {
                drop(tell.send((stream, address)).await);
            }
        }));
    }
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(ready) => ready,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.address)
    }
}
