//! Certificates as PostgreSQL's manual makes them with OpenSSL: an authority's own for the server, and
//! one without extensions (X.509 v1). webpki refuses both, and libpq takes them under `verify-ca`.
//!
//! Only names, validity and signatures are looked at, which is what such certificates have.

use core::time::Duration;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::spki::AlgorithmIdentifierOwned;

/// The certificates in a file that is trusted, and what verifies signatures.
#[derive(Debug)]
pub(super) struct Vouched {
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Vouched {
    pub(super) fn new(trusted: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Self {
        Self { trusted, provider }
    }

    /// Whether a trusted certificate is the server's, or signed it or what signed it.
    pub(super) fn for_server(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> bool {
        let trusted = || self.trusted.iter().filter_map(|der| Certificate::from_der(der).ok());
        let Ok(mut current) = Certificate::from_der(server) else { return false };
        if self.trusted.iter().any(|der| **der == **server) {
            return is_valid(&current, now);
        }
        let intermediates: Vec<_> =
            intermediates.iter().filter_map(|der| Certificate::from_der(der).ok()).filter(is_authority).collect();
        for _ in 0..MAX_CHAIN {
            if !is_valid(&current, now) {
                return false;
            }
            if trusted().any(|root| is_valid(&root, now) && self.signed(&root, &current)) {
                return true;
            }
            match intermediates.iter().find(|issuer| self.signed(issuer, &current)) {
                Some(issuer) => current = issuer.clone(),
                None => return false,
            }
        }
        false
    }

    /// Whether the holder of one certificate issued another.
    fn signed(&self, issuer: &Certificate, certificate: &Certificate) -> bool {
        let key = &issuer.tbs_certificate.subject_public_key_info;
        let (Some(message), Some(signature)) =
            (certificate.tbs_certificate.to_der().ok(), certificate.signature.as_bytes())
        else {
            return false;
        };
        issuer.tbs_certificate.subject == certificate.tbs_certificate.issuer
            && certificate.tbs_certificate.signature == certificate.signature_algorithm
            && self.provider.signature_verification_algorithms.all.iter().any(|algorithm| {
                is(&key.algorithm, algorithm.public_key_alg_id().as_ref())
                    && is(&certificate.signature_algorithm, algorithm.signature_alg_id().as_ref())
                    && algorithm.verify_signature(key.subject_public_key.raw_bytes(), &message, signature).is_ok()
            })
    }

    pub(super) fn signed_tls13(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = Certificate::from_der(server).and_then(|c| c.tbs_certificate.subject_public_key_info.to_der());
        let key = SubjectPublicKeyInfoDer::from(key.map_err(|_| CertificateError::BadEncoding)?);
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
    }

    pub(super) fn signed_tls12(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let server = Certificate::from_der(server).map_err(|_| CertificateError::BadEncoding)?;
        let key = &server.tbs_certificate.subject_public_key_info;
        let mapping = self.provider.signature_verification_algorithms.mapping;
        let algorithms = mapping.iter().find(|(scheme, _)| *scheme == signature.scheme).map(|(_, all)| *all);
        let verified = algorithms.unwrap_or_default().iter().any(|algorithm| {
            is(&key.algorithm, algorithm.public_key_alg_id().as_ref())
                && algorithm
                    .verify_signature(key.subject_public_key.raw_bytes(), message, signature.signature())
                    .is_ok()
        });
        if verified { Ok(HandshakeSignatureValid::assertion()) } else { Err(CertificateError::BadSignature.into()) }
    }
}

fn is_valid(certificate: &Certificate, now: UnixTime) -> bool {
    let now = Duration::from_secs(now.as_secs());
    let validity = &certificate.tbs_certificate.validity;
    validity.not_before.to_unix_duration() <= now && now <= validity.not_after.to_unix_duration()
}

fn is_authority(certificate: &Certificate) -> bool {
    matches!(certificate.tbs_certificate.get::<BasicConstraints>(), Ok(Some((_, BasicConstraints { ca: true, .. }))))
}

/// Whether an algorithm has this identifier, which webpki writes without the header of its sequence.
fn is(algorithm: &AlgorithmIdentifierOwned, id: &[u8]) -> bool {
    // Identifiers are short: one byte of tag, one of length.
    algorithm.to_der().is_ok_and(|der| der.get(1).is_some_and(|length| *length < 0x80) && der.get(2..) == Some(id))
}

/// Longest chain.
const MAX_CHAIN: usize = 8;
