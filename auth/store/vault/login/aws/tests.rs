//! OpenBao has no AWS auth, and STS is not ours to ask: what would be sent is taken apart here, in the form that Vault's API
//! documentation of `auth/aws/login` gives.

use serde_json::Value;
use zeroize::Zeroizing;

use super::*;
use crate::store::vault::client::tests::{Server, answer};

fn aws(keys: Value, variables: &[(&str, &str)]) -> Result<Aws, String> {
    let keys: AwsKeys = serde_json::from_value(keys).unwrap();
    let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Aws::with(&keys, &crate::sample::nowhere(), &variable)
}

fn decoded(body: &Value, key: &str) -> String {
    String::from_utf8(STANDARD.decode(body[key].as_str().unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn recorded_form_what_is_sent_is_a_signed_request_that_shows_who_we_are_to_this_store_only() {
    let keys = json!({
        "role": "keyward", "region": "eu-west-1", "server_id": "vault.example.com",
        "access_key_id": "AKIDEXAMPLE", "secret_access_key": "secret-canary", "session_token": "session",
    });
    let aws = aws(keys, &[("AWS_SESSION_TOKEN", "of-another-key"), ("AWS_REGION", "us-west-2")]).unwrap();
    let granted = json!({"auth": {"client_token": "s.1", "lease_duration": 60, "renewable": true}}).to_string();
    let server = Server::answering(&[answer("200 OK", "", &granted)]).await;
    let post = aws.prepare().await.unwrap();
    assert_eq!(post.log_in(&server.client()).await.unwrap().text, "s.1");
    let request = server.requests().remove(0);
    assert!(request.starts_with("POST /v1/auth/aws/login HTTP/1.1\r\n") && !request.contains("canary"), "{request}");
    let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((body["role"].as_str(), body["iam_http_request_method"].as_str()), (Some("keyward"), Some("POST")));
    assert_eq!(decoded(&body, "iam_request_url"), "https://sts.eu-west-1.amazonaws.com/");
    assert_eq!(decoded(&body, "iam_request_body"), "Action=GetCallerIdentity&Version=2011-06-15");
    let headers: Value = serde_json::from_str(&decoded(&body, "iam_request_headers")).unwrap();
    let header = |name: &str| headers[name][0].as_str().unwrap_or_else(|| panic!("{name}: {headers}")).to_owned();
    assert_eq!(header("X-Vault-AWS-IAM-Server-ID"), "vault.example.com");
    assert_eq!(header("X-Amz-Security-Token"), "session");
    assert_eq!(header("Content-Length"), "43");
    let (time, signed) = (header("X-Amz-Date"), header("Authorization"));
    let signs = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-vault-aws-iam-server-id, Signature=";
    assert!(signed.contains(signs) && signed.contains(&format!("/{}/eu-west-1/sts/aws4_request", &time[..8])), "{signed}");
    // Signed anew, from nothing but what was sent and the host, it is the same.
    let sent =
        ["Content-Type", "X-Amz-Date", "X-Amz-Security-Token", "X-Vault-AWS-IAM-Server-ID"].map(|name| (name.to_lowercase(), header(name)));
    let mut again: Vec<(&str, &str)> = sent.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    again.push(("host", "sts.eu-west-1.amazonaws.com"));
    let text = |text: &str| Zeroizing::new(text.to_owned());
    let key = AccessKey { id: text("AKIDEXAMPLE"), secret: text("secret-canary"), session_token: None };
    let request = Request { time: &time, region: "eu-west-1", service: "sts", headers: again, body: BODY };
    assert_eq!(authorization(&request, &key), signed);
}

#[test]
fn what_the_file_leaves_out_the_environment_says_as_for_every_program_of_aws() {
    let known = |keys: Value, variables: &[(&str, &str)]| {
        let aws = aws(keys, variables).unwrap();
        (aws.region, aws.endpoint.to_string(), aws.session_token.is_some())
    };
    let global = "https://sts.amazonaws.com/".to_owned();
    assert_eq!(known(json!({}), &[]), ("us-east-1".to_owned(), global, false));
    let variables = [("AWS_REGION", "eu-west-1"), ("AWS_SESSION_TOKEN", "t")];
    assert_eq!(known(json!({}), &variables), ("eu-west-1".to_owned(), "https://sts.eu-west-1.amazonaws.com/".to_owned(), true));
    let own = json!({"sts_endpoint": "http://127.0.0.1:5000", "region": "x-1", "access_key_id": "a", "secret_access_key": "b"});
    assert_eq!(known(own, &variables), ("x-1".to_owned(), "http://127.0.0.1:5000/".to_owned(), false));
    for (keys, says) in [
        (json!({"access_key_id": "a"}), "belong together"),
        (json!({"region": "eu west"}), "auth.region"),
        (json!({"sts_endpoint": "sts"}), "auth.sts_endpoint"),
        (json!({"sts_endpoint": "https://sts/path"}), "auth.sts_endpoint"),
        (json!({"server_id": "a b"}), "auth.server_id"),
    ] {
        let error = aws(keys, &[]).err().unwrap();
        assert!(error.contains(says), "{error}");
    }
}
