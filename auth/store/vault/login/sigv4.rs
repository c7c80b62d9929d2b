//! AWS Signature Version 4, for one request with its body ("Create a signed AWS API request", IAM user guide).

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use zeroize::Zeroizing;

/// The AWS access key that signs.
pub(super) struct AccessKey {
    pub(super) id: Zeroizing<String>,
    pub(super) secret: Zeroizing<String>,
    /// Of temporary credentials.
    pub(super) session_token: Option<Zeroizing<String>>,
}

/// What is signed: a POST to `/` without a query.
pub(super) struct Request<'a> {
    /// `20150830T123600Z`.
    pub(super) time: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// Every header but Authorization, in lower case, in any order.
    pub(super) headers: Vec<(&'a str, &'a str)>,
    pub(super) body: &'a str,
}

/// The value of the Authorization header.
pub(super) fn authorization(request: &Request<'_>, key: &AccessKey) -> String {
    let mut headers = request.headers.clone();
    headers.sort_unstable();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let mut canonical = Zeroizing::new(String::from("POST\n/\n\n"));
    for (name, value) in &headers {
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        canonical.push_str(&format!("{name}:{value}\n"));
    }
    canonical.push_str(&format!("\n{names}\n{}", sha256(request.body)));
    let day = request.time.split('T').next().unwrap_or_default();
    let scope = format!("{day}/{}/{}/aws4_request", request.region, request.service);
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", request.time, sha256(&canonical));
    let secret = Zeroizing::new(format!("AWS4{}", key.secret.as_str()));
    let mut signed = hmac(secret.as_bytes(), day);
    for step in [request.region, request.service, "aws4_request"] {
        signed = hmac(signed.as_ref(), step);
    }
    let signature = hex(hmac(signed.as_ref(), &text).as_ref());
    format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", key.id.as_str())
}

fn hmac(key: &[u8], text: &str) -> aws_lc_rs::hmac::Tag {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes())
}

fn sha256(text: &str) -> String {
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> AccessKey {
        let text = |text: &str| Zeroizing::new(text.to_owned());
        AccessKey { id: text("AKIDEXAMPLE"), secret: text("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), session_token: None }
    }

    /// The cases of Amazon's own test suite for this signature that are POSTs to `/`, by the names that they have there.
    #[test]
    fn requests_are_signed_as_in_the_vectors_that_amazon_published() {
        let (host, date) = (("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z"));
        let form = ("content-type", "application/x-www-form-urlencoded");
        let charset = ("content-type", "application/x-www-form-urlencoded; charset=utf8");
        for (name, headers, body, signature) in [
            ("post-vanilla", vec![host, date], "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            (
                "post-header-value-case",
                vec![host, ("my-header1", "VALUE1"), date],
                "",
                "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
            ),
            (
                "post-x-www-form-urlencoded",
                vec![host, date, form],
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "post-x-www-form-urlencoded-parameters",
                vec![charset, host, date],
                "Param1=value1",
                "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe",
            ),
        ] {
            let request = Request { time: "20150830T123600Z", region: "us-east-1", service: "service", headers, body };
            let signed = authorization(&request, &key());
            assert!(
                signed.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders="),
                "{signed}"
            );
            assert!(signed.ends_with(&format!("Signature={signature}")), "{name}: {signed}");
        }
    }
}
