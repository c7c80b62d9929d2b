//! The SSH engine of OpenBao: an authority that signs users' keys, and one-time passwords that servers ask it about.

use serde_json::{Value, json};

use super::bao::Bao;
use super::canary::random_hex;

/// A mount of the test's own. Its roles are `app`, which signs for the login `app_login`, and `otp`.
pub struct SshEngine<'a> {
    bao: &'a Bao,
    /// Its name, which begins with `ssh_`: what lies there is asked for by `update`.
    pub mount: String,
}

impl Bao {
    /// An SSH engine whose role `app` signs for the user `app_login`, and whose role `otp` has passwords for it at loopback addresses.
    pub fn ssh_engine(&self, app_login: &str) -> SshEngine<'_> {
        let mount = format!("ssh_{}", random_hex(4));
        self.call("POST", &format!("sys/mounts/{mount}"), json!({ "type": "ssh" }));
        self.call("POST", &format!("{mount}/config/ca"), json!({ "generate_signing_key": true, "key_type": "ed25519" }));
        let app = json!({ "key_type": "ca", "allow_user_certificates": true, "allowed_users": app_login, "max_ttl": "30m",
            "default_extensions": { "permit-pty": "" } });
        self.call("POST", &format!("{mount}/roles/app"), app);
        let otp = json!({ "key_type": "otp", "default_user": app_login, "allowed_users": app_login, "cidr_list": "127.0.0.0/8" });
        self.call("POST", &format!("{mount}/roles/otp"), otp);
        SshEngine { bao: self, mount }
    }
}

impl SshEngine<'_> {
    /// What a server's `TrustedUserCAKeys` names.
    pub fn authority(&self) -> String {
        let answer = self.bao.call("GET", &format!("{}/config/ca", self.mount), Value::Null).json();
        answer["data"]["public_key"].as_str().expect("a public key").trim().to_owned()
    }

    /// `mount/sign/app`
    pub fn sign(&self) -> String {
        format!("{}/sign/app", self.mount)
    }

    /// `mount/creds/otp`
    pub fn otp(&self) -> String {
        format!("{}/creds/otp", self.mount)
    }

    /// Where a server asks whether a one-time password counts; each answer ends that password.
    pub fn verify_url(&self) -> String {
        format!("{}/v1/{}/verify", self.bao.address(), self.mount)
    }

    /// How many one-time passwords are out.
    pub fn passwords(&self) -> usize {
        let answer = self.bao.request("LIST", &format!("sys/leases/lookup/{}/creds/otp", self.mount), "");
        answer.json()["data"]["keys"].as_array().map_or(0, Vec::len)
    }
}
