//! restic's cipher, for the few files `rustic_core` has no way to write: locks and a stream's tree.
//!
//! The format is restic's (doc/design.rst, "Keys, Encryption and MAC"): a random nonce of 16 bytes,
//! AES-256 in counter mode, and a Poly1305-AES tag of 16 bytes. This module never sees a password.

use std::io::Read;

use aes256ctr_poly1305aes::aead::{Aead, Nonce};
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key};
use sha2::{Digest, Sha256};

/// What does not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    /// Too short, or not sealed with this key.
    #[error("it is not sealed with the repository's key")]
    Foreign,
    /// The kernel gives no random bytes.
    #[error("no random bytes can be had: {0}")]
    Random(#[source] std::io::Error),
}

/// A repository's master key.
pub(crate) struct Seal(Aes256CtrPoly1305Aes);

impl Seal {
    /// From the parts of a master key: 32, 16 and 16 bytes.
    pub(crate) fn new(encrypt: &[u8], k: &[u8], r: &[u8]) -> Option<Self> {
        let key = [encrypt, k, r].concat();
        let key: [u8; 64] = key.try_into().ok()?;
        Some(Seal(Aes256CtrPoly1305Aes::new(Key::from_slice(&key))))
    }

    pub(crate) fn close(&self, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; 16] = random()?;
        let sealed = self
            .0
            .encrypt(Nonce::<Aes256CtrPoly1305Aes>::from_slice(&nonce), plain)
            .map_err(|_| SealError::Foreign)?;
        Ok([&nonce[..], &sealed].concat())
    }

    pub(crate) fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, rest) = sealed.split_at_checked(16).ok_or(SealError::Foreign)?;
        self.0
            .decrypt(Nonce::<Aes256CtrPoly1305Aes>::from_slice(nonce), rest)
            .map_err(|_| SealError::Foreign)
    }
}

/// Bytes nobody can guess.
#[expect(clippy::disallowed_methods, reason = "the kernel's random numbers are a file")]
pub(crate) fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    let mut source = std::fs::File::open("/dev/urandom").map_err(SealError::Random)?;
    source.read_exact(&mut bytes).map_err(SealError::Random)?;
    Ok(bytes)
}

/// The name restic gives a file or a blob: the SHA-256 of its content.
pub(crate) fn digest(content: &[u8]) -> String {
    hex::encode(digest_bytes(content))
}

pub(crate) fn digest_bytes(content: &[u8]) -> [u8; 32] {
    Sha256::digest(content).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_and_a_flipped_bit_does_not() {
        let seal = Seal::new(&[1; 32], &[2; 16], &[3; 16]).expect("the sizes are right");
        let mut sealed = seal.close(b"hello").expect("it seals");
        assert_eq!(sealed.len(), 16 + 5 + 16);
        assert_eq!(seal.open(&sealed).expect("it opens"), b"hello");
        sealed[17] ^= 1;
        assert!(seal.open(&sealed).is_err());
        assert!(seal.open(&sealed[..9]).is_err());
        assert!(Seal::new(&[1; 31], &[2; 16], &[3; 16]).is_none());
    }
}
