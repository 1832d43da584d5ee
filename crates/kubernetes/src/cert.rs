//! When certificates end: of files, of a kubeconfig, and of a server as it shows itself. Keys are never
//! read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;

use crate::access::Access;
use crate::fault::chain;

/// Most certificates of one file; a bundle of all public authorities has about 150.
const BUNDLE_MAX: usize = 1_000;

/// What authorities' certificates are called.
pub(crate) const AUTHORITY: &str = "authority";

/// A certificate, as far as its end goes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Certificate {
    /// Which one.
    pub what: String,
    /// From when on it counts.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

impl Certificate {
    /// Whether it is an authority's, which outlives those that it signs by years.
    pub fn is_authority(&self) -> bool {
        self.what.starts_with(AUTHORITY)
    }

    /// Whole days that are left; negative where it has ended.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        const DAY: i64 = 86_400;
        (self.until.as_second() - now.as_second()).div_euclid(DAY)
    }
}

/// The certificates of a PEM text; anything else in it (a key) is not looked at.
///
/// # Errors
/// In words, with `what`.
pub fn from_pem(what: &str, pem: &[u8]) -> Result<Vec<Certificate>, String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let text = std::str::from_utf8(pem).map_err(|_| format!("{what}: not a PEM text"))?;
    let mut all = Vec::new();
    for piece in text.split(BEGIN).skip(1) {
        let body = piece.split_once(END).ok_or_else(|| format!("{what}: is cut off"))?.0;
        let packed: String = body.split_whitespace().collect();
        let der = base64::engine::general_purpose::STANDARD.decode(packed);
        let der = der.map_err(|error| format!("{what}: {error}"))?;
        all.push(from_der(what, &der)?);
        if all.len() > BUNDLE_MAX {
            return Err(format!("{what}: more than {BUNDLE_MAX} certificates"));
        }
    }
    if all.is_empty() {
        return Err(format!("{what}: there is no certificate in it"));
    }
    Ok(all)
}

/// A certificate in DER.
///
/// # Errors
/// In words, with `what`.
pub fn from_der(what: &str, der: &[u8]) -> Result<Certificate, String> {
    let (from, until) = validity(der).map_err(|error| format!("{what}: {error}"))?;
    let stamp = |time: Duration| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).map_err(|error| format!("{what}: {error}"))
    };
    Ok(Certificate { what: what.to_owned(), from: stamp(from)?, until: stamp(until)? })
}

/// RFC 5280, 4.1: `Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { [0] version OPTIONAL,
/// serialNumber, signature, issuer, validity SEQUENCE { notBefore, notAfter }, … } … }`.
fn validity(der: &[u8]) -> der::Result<(Duration, Duration)> {
    let mut outer = SliceReader::new(AnyRef::from_der(der)?.value())?;
    let whole = AnyRef::decode(&mut outer)?;
    let mut inner = SliceReader::new(whole.value())?;
    let first = AnyRef::decode(&mut inner)?;
    // The version is left out in the oldest ones.
    let before_validity = if matches!(first.tag(), Tag::ContextSpecific { .. }) { 3 } else { 2 };
    for _ in 0..before_validity {
        AnyRef::decode(&mut inner)?;
    }
    let validity = AnyRef::decode(&mut inner)?;
    let mut times = SliceReader::new(validity.value())?;
    let from = time(&mut times)?;
    Ok((from, time(&mut times)?))
}

fn time<'a>(reader: &mut impl Reader<'a>) -> der::Result<Duration> {
    let any = AnyRef::decode(reader)?;
    match any.tag() {
        Tag::UtcTime => Ok(any.decode_as::<UtcTime>()?.to_unix_duration()),
        _ => Ok(any.decode_as::<GeneralizedTime>()?.to_unix_duration()),
    }
}

/// Looks at the certificate that a server shows, whether it can be trusted or not: one that has ended
/// is to be told too. Nothing is sent over that connection.
///
/// # Errors
/// In words, why nothing was seen.
pub async fn of_server(access: &Access) -> Result<Certificate, String> {
    let (host, port) = access.tls_place().ok_or("the server is not reached over TLS")?;
    let what = format!("server {host}:{port}");
    let limit = access.api.limits().connect;
    match tokio::time::timeout(limit, peek(&host, port)).await {
        Ok(seen) => from_der(&what, &seen.map_err(|words| format!("{what}: {words}"))?),
        Err(_) => Err(format!("{what}: no answer within {} s", limit.as_secs())),
    }
}

async fn peek(host: &str, port: u16) -> Result<Vec<u8>, String> {
    let provider = CryptoProvider::get_default().cloned().ok_or("no TLS was set up")?;
    let look = Arc::new(Look { provider: provider.clone(), seen: Mutex::default() });
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| chain(&error))?
        .dangerous()
        .with_custom_certificate_verifier(look.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| chain(&error))?;
    let stream = TcpStream::connect((host, port)).await.map_err(|error| chain(&error))?;
    let shaken = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let seen = look.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    // A server that wants to know us first may end the handshake; the certificate was seen then too.
    seen.ok_or_else(|| shaken.err().map_or("showed none".to_owned(), |error| chain(&error)))
}

/// Takes down what is shown.
#[derive(Debug)]
struct Look {
    provider: Arc<CryptoProvider>,
    seen: Mutex<Option<Vec<u8>>>,
}

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made for this test, and the key thrown away: from 2020-01-01 to 2020-01-02.
    const ENDED: &str = include_str!("cert/ended.pem");

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let all = from_pem("x", ENDED.as_bytes()).unwrap();
        assert_eq!(all[0].from.to_string(), "2020-01-01T00:00:00Z");
        assert_eq!(all[0].until.to_string(), "2020-01-02T00:00:00Z");
        let now: Timestamp = "2020-01-01T12:00:00Z".parse().unwrap();
        assert_eq!(all[0].days_left(now), 0);
        let now: Timestamp = "2020-01-03T00:00:00Z".parse().unwrap();
        assert_eq!(all[0].days_left(now), -1);
    }

    #[test]
    fn what_is_none_is_said_to_be() {
        assert!(from_pem("x", b"").unwrap_err().contains("no certificate in it"));
        assert!(from_pem("x", &ENDED.as_bytes()[..300]).unwrap_err().contains("cut off"));
        assert!(from_der("x", &[0x30, 0x03, 1, 2, 3]).is_err());
        for length in 0..200 {
            assert!(from_der("x", &[0x30; 200][..length]).is_err());
        }
    }
}
