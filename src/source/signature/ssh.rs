//! SSH signatures (OpenSSH's PROTOCOL.sshsig), checked in this process.

use ssh_key::{Algorithm, HashAlg, PublicKey, SshSig};

use super::{AllowedSigners, SignatureRejection, Signed, Verified};

/// The namespace Git signs in.
const NAMESPACE: &str = "git";
/// What OpenSSH itself asks of RSA keys today is weaker; below this they are within reach.
const RSA_BITS_MIN: usize = 2_048;

pub(super) fn verify(signed: &Signed<'_>) -> Result<Verified, SignatureRejection> {
    let commit = signed.commit;
    let Some(path) = &signed.policy.ssh_allowed_signers else {
        let why = "the daemon's config names no allowed_signers file".to_owned();
        return Err(SignatureRejection::NotAccepted { commit, what: "SSH", why });
    };
    let allowed = AllowedSigners::read(path).map_err(SignatureRejection::Signers)?;
    let signature = SshSig::from_pem(signed.signature.trim())
        .map_err(|error| SignatureRejection::Malformed { commit, why: error.to_string() })?;
    let key = PublicKey::from(signature.public_key().clone());
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    let lines: Vec<_> = allowed
        .of(signature.public_key())
        .into_iter()
        .filter(|line| line.covers(NAMESPACE))
        .collect();
    if lines.is_empty() {
        return Err(SignatureRejection::UnknownKey {
            commit,
            key: fingerprint,
            file: allowed.path.display().to_string(),
        });
    }
    if let Some(why) = too_weak(&key, &signature) {
        return Err(SignatureRejection::NotAccepted { commit, what: "SSH", why });
    }
    if key.verify(NAMESPACE, signed.payload, &signature).is_err() {
        return Err(SignatureRejection::Tampered { commit });
    }
    let mut refusal = None;
    for line in lines {
        if let Some(why) = line.invalid_at(signed.committer.seconds) {
            refusal.get_or_insert(SignatureRejection::Expired {
                commit,
                signer: line.principals.clone(),
                key: fingerprint.clone(),
                why,
            });
        } else if signed.policy.match_committer && !line.is(&signed.committer.email) {
            refusal.get_or_insert(SignatureRejection::OtherCommitter {
                commit,
                signer: line.principals.clone(),
                committer: signed.committer.email.clone(),
            });
        } else {
            return Ok(Verified { signer: line.principals.clone(), key: fingerprint });
        }
    }
    // There was at least one line, so there is a refusal; the other arm cannot be reached.
    Err(refusal.unwrap_or(SignatureRejection::Unsigned { commit }))
}

fn too_weak(key: &PublicKey, signature: &SshSig) -> Option<String> {
    if let Some(rsa) = key.key_data().rsa() {
        let bits = rsa.n.as_positive_bytes().map_or(0, |bytes| bytes.len() * 8);
        if bits < RSA_BITS_MIN {
            return Some(format!(
                "the RSA key has {bits} bits, at least {RSA_BITS_MIN} are needed"
            ));
        }
    }
    match signature.algorithm() {
        Algorithm::Dsa => Some("DSA is broken".to_owned()),
        Algorithm::Rsa { hash: None } => Some("it uses SHA-1".to_owned()),
        _ => None,
    }
}
