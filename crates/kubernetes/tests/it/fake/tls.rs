//! The fake server behind TLS, with certificates that are made anew, one of them long over.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A certificate for 127.0.0.1 that signs itself, and its key.
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    key: PathBuf,
}

fn openssl(dir: &Path, args: &[&str]) {
    let said = Command::new("openssl").args(args).current_dir(dir).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// Makes one that counts between two times, as `20200101000000Z`.
pub(crate) fn identity(dir: &Path, from: &str, until: &str) -> Identity {
    let settings = "[ca]\ndefault_ca = d\n[d]\ndatabase = ./index\nserial = ./serial\nnew_certs_dir = .\ndefault_md = sha256\npolicy = p\nx509_extensions = x\n[p]\ncommonName = supplied\n[x]\nsubjectAltName = IP:127.0.0.1\nbasicConstraints = critical,CA:FALSE\n[req]\ndistinguished_name = n\n[n]\n";
    std::fs::write(dir.join("ca.cnf"), settings).unwrap();
    std::fs::write(dir.join("index"), "").unwrap();
    std::fs::write(dir.join("serial"), "01").unwrap();
    let curve = "ec_paramgen_curve:prime256v1";
    openssl(
        dir,
        &[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            curve,
            "-nodes",
            "-keyout",
            "key.pem",
            "-out",
            "request.pem",
            "-subj",
            "/CN=fake",
            "-config",
            "ca.cnf",
        ],
    );
    openssl(
        dir,
        &[
            "ca",
            "-batch",
            "-selfsign",
            "-config",
            "ca.cnf",
            "-keyfile",
            "key.pem",
            "-in",
            "request.pem",
            "-out",
            "cert.pem",
            "-notext",
            "-startdate",
            from,
            "-enddate",
            until,
        ],
    );
    Identity { certificate: dir.join("cert.pem"), key: dir.join("key.pem") }
}

pub(crate) struct Listener {
    inner: TcpListener,
    acceptor: TlsAcceptor,
    pub(crate) address: SocketAddr,
}

impl Listener {
    pub(crate) async fn bind(identity: &Identity) -> Self {
        let chain = CertificateDer::pem_file_iter(&identity.certificate).unwrap();
        let chain: Vec<_> = chain.map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = inner.local_addr().unwrap();
        Self { inner, acceptor: TlsAcceptor::from(Arc::new(config)), address }
    }
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.inner.accept().await.unwrap();
            // Who does not trust us hangs up, which is the point of some tests.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}
