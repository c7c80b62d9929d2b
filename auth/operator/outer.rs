//! What opens a sealed file or a sealed table may be in another store: an operator reads it there, with his token where the store takes one, and
//! else as Keyward itself does.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use keyward_config::Config;
use zeroize::Zeroizing;

use super::{SecretName, of_name, open_writer};
use crate::store::{Kind, Opening, Outer, SINGLE, Selector, Stay, StoreError, StoreErrorKind, Unobserved, Values, Wants};
use crate::{Secret, SessionId};

/// The other stores of a file, as an operator reaches them.
pub(super) struct OfOperator {
    config: Arc<Config>,
    token: Option<Token>,
    /// The stores that wait for what is read, from the one that he named on.
    way: Vec<String>,
}

/// His token, and the store that asked for it: no other is shown it.
#[derive(Clone)]
pub(super) struct Token {
    store: String,
    secret: Arc<Secret>,
}

impl Token {
    /// What he gave for the store that [`wants_token`] named; `None` where it named none, or he gave nothing.
    pub(super) fn of(store: Option<String>, secret: Option<Secret>) -> Option<Self> {
        Some(Self { store: store?, secret: Arc::new(secret?) })
    }

    pub(super) fn for_store<'a>(token: Option<&'a Self>, store: &str) -> Option<&'a Secret> {
        token.filter(|token| token.store == store).map(|token| &*token.secret)
    }
}

/// The store to which he has to show his token to read what is behind these references, and whatever that needs in turn.
///
/// # Errors
/// There are several, and he is asked for one token.
pub(super) fn wants_token(config: &Config, references: impl IntoIterator<Item = String>) -> Result<Option<String>, String> {
    let (mut left, mut seen): (Vec<String>, BTreeSet<String>) = (references.into_iter().collect(), BTreeSet::new());
    let mut wanting = BTreeSet::new();
    while let Some(text) = left.pop() {
        // What is none says so when it is read.
        let Ok(name) = SecretName::parse(config, &text) else { continue };
        let Some(store) = config.stores.get(name.store()).filter(|_| seen.insert(name.store().to_owned())) else { continue };
        if Kind::of(store).is_some_and(takes_token) {
            wanting.insert(name.store().to_owned());
            continue;
        }
        left.extend(store.node.references().into_iter().map(|found| found.text));
    }
    if wanting.len() > 1 {
        let names = wanting.into_iter().collect::<Vec<_>>().join(" and ");
        return Err(format!(
            "the stores {names} are both on the way to its key, and each takes a token of its own: keep the key behind one"
        ));
    }
    Ok(wanting.pop_first())
}

fn takes_token(kind: &Kind) -> bool {
    kind.write.as_ref().is_some_and(|writing| writing.wants == Wants::Token)
}

impl OfOperator {
    /// For the store that he named.
    pub(super) fn of(config: &Arc<Config>, token: Option<&Token>, store: &str) -> Self {
        Self { config: Arc::clone(config), token: token.cloned(), way: vec![store.to_owned()] }
    }

    /// For one that is read on his behalf.
    fn behind(&self, store: &str) -> Result<Arc<dyn Outer>, StoreError> {
        let way: Vec<String> = self.way.iter().map(String::as_str).chain([store]).map(str::to_owned).collect();
        if self.way.iter().any(|waits| waits == store) {
            let message = format!("the credentials of these stores are in each other: {}", way.join(" → "));
            return Err(StoreError::new(StoreErrorKind::Malformed, message));
        }
        Ok(Arc::new(Self { config: Arc::clone(&self.config), token: self.token.clone(), way }))
    }

    async fn pick(&self, name: &SecretName, outer: Arc<dyn Outer>) -> Result<Secret, StoreError> {
        let (path, key) = (&name.0.path, Selector::key(name.key().unwrap_or(SINGLE)));
        let (store, kind) = of_name(&self.config, name.store()).map_err(|message| StoreError::new(StoreErrorKind::Disabled, message))?;
        if takes_token(kind) {
            let writer = open_writer(&self.config, name.store(), Token::for_store(self.token.as_ref(), name.store()), outer)?;
            return key.pick(&writer.get(path, None, Values::Shown).await?.fields, path);
        }
        let (label, observer) = (name.store(), Arc::new(Unobserved));
        let opened = (kind.open)(&Opening { store, label, runner: None, stay: Stay::Looks, observer, outer, former: None });
        let opened = opened.map_err(|message| StoreError::new(StoreErrorKind::Malformed, message))?;
        key.pick(&opened.read(SessionId::random(), path, true).await?.fields, path)
    }
}

impl Outer for OfOperator {
    fn read<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Zeroizing<String>, StoreError>> {
        Box::pin(async move {
            let malformed = |message: &str| StoreError::new(StoreErrorKind::Malformed, message);
            let name = SecretName::parse(&self.config, reference).map_err(|message| malformed(&message))?;
            let value = self.pick(&name, self.behind(name.store())?).await?;
            // Exposed: to the store whose key it is.
            let text = value.expose_str().ok_or_else(|| malformed("the value is not text"))?;
            Ok(Zeroizing::new(text.to_owned()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::{Change, Others, Seal, Secrets, make_key};
    use crate::sample;
    use crate::store::sealing::SealingKey;

    fn config(stores: &str) -> Arc<Config> {
        Arc::new(sample::config(&format!("stores:\n{stores}")).0)
    }

    fn change(key: &str, value: &str) -> Change {
        let mut change = Change::new(Others::Kept);
        change.set(key, &Secret::from(value.to_owned())).unwrap();
        change
    }

    #[tokio::test]
    async fn a_key_is_had_from_wherever_it_is_and_no_token_is_asked_for_without_a_vault() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        std::fs::create_dir(folder.path().join("run")).unwrap();
        std::fs::write(folder.path().join("run/box-key"), make_key().unwrap().expose()).unwrap();
        let sealed = |name: &str, key: &str| format!("  {name}: {{ type: file, sealed: '{at}/{name}', key: {{ secret: '{key}' }} }}\n");
        let rows = "type: table, address: '127.0.0.1:1', database: d, username: { secret: 'corp:kv/data/x?y' }, password: p";
        let config = config(
            &(format!("  run: {{ type: file, folder: '{at}/run' }}\n  env: {{ type: env }}\n")
                + &sealed("box", "run:box-key")
                + &sealed("inner", "box:keys?inner")
                // A variable that every process has, and that is long enough for a passphrase.
                + &sealed("other", "env:PATH")
                + &format!("  rows: {{ {rows}, key: {{ secret: 'inner:keys?rows' }} }}\n")
                + "  corp: { type: vault, address: 'http://127.0.0.1:1', auth: { method: token, token: t } }\n"),
        );
        let key = make_key().unwrap().expose_str().unwrap().to_owned();
        for (name, value) in
            [("box:keys?inner", &*make_key().unwrap().expose_str().unwrap().to_owned()), ("inner:keys?rows", &key), ("other:x?y", "z")]
        {
            let name = SecretName::parse(&config, name).unwrap();
            assert_eq!(Secrets::wants_token(&config, name.store()).unwrap(), None);
            let secrets = Secrets::open(&config, name.store(), None).unwrap();
            secrets.put(&name, &change(name.key().unwrap(), value)).await.unwrap_or_else(|error| panic!("{}: {error}", name.store()));
            assert_eq!(secrets.value(&name, name.key().unwrap(), None).await.unwrap().expose_str(), Some(value));
        }
        // What the table's own login needs, its key does not.
        assert_eq!(Seal::wants_token(&config, "rows").unwrap(), None);
        let (seal, name) = (Seal::open(&config, "rows", None).unwrap(), SecretName::parse(&config, "rows:orders").unwrap());
        let text = seal.value(&name, Secret::from("canary".to_owned())).await.unwrap();
        assert_eq!(&**SealingKey::new(&key).open("orders", &text).unwrap(), b"canary");
    }

    #[tokio::test]
    async fn a_token_is_asked_for_where_the_way_to_the_key_ends_at_a_vault() {
        let sealed = |name: &str, key: &str| format!("  {name}: {{ type: file, sealed: '/none/{name}', key: {{ secret: '{key}' }} }}\n");
        let corp = "  corp: { type: vault, address: 'http://127.0.0.1:1', auth: { method: token, token: t } }\n";
        let ends = config(&(corp.to_owned() + &sealed("first", "second:k?k") + &sealed("second", "corp:kv/data/x?key")));
        for store in ["corp", "first", "second"] {
            assert_eq!(Secrets::wants_token(&ends, store).unwrap().as_deref(), Some("corp"), "{store}");
        }
        let error =
            Secrets::open(&ends, "first", None).unwrap().put(&SecretName::parse(&ends, "first:x").unwrap(), &change("a", "b")).await;
        assert!(error.as_ref().unwrap_err().detail.contains("there is no token"), "{error:?}");
        let round = config(&(sealed("first", "second:k?k") + &sealed("second", "first:k?k")));
        assert_eq!(Secrets::wants_token(&round, "first").unwrap(), None);
        let error =
            Secrets::open(&round, "first", None).unwrap().put(&SecretName::parse(&round, "first:x").unwrap(), &change("a", "b")).await;
        assert!(error.as_ref().unwrap_err().detail.contains("in each other: first → second → first"), "{error:?}");
    }

    #[tokio::test]
    async fn a_token_is_shown_to_the_store_that_asked_for_it_and_to_no_other() {
        let vault =
            |name: &str| format!("  {name}: {{ type: vault, address: 'http://127.0.0.1:1', auth: {{ method: token, token: t }} }}\n");
        let rows = "type: table, address: '127.0.0.1:1', database: d, username: { secret: 'one:kv/data/u?u' }, password: p";
        let config = config(
            &(vault("one")
                + &vault("two")
                + &format!("  rows: {{ {rows}, key: {{ secret: 'two:kv/data/k?k' }} }}\n")
                + "  box: { type: file, sealed: '/none/box', key: { secret: 'rows:x?k' } }\n"),
        );
        let canary = || Some(Secret::from("canary".to_owned()));
        let error = Secrets::wants_token(&config, "box").unwrap_err();
        assert!(error.contains("the stores one and two are both on the way"), "{error}");
        assert_eq!(Secrets::open(&config, "box", canary()).err().map(|refused| refused.detail), Some(error));
        let token = Token::of(Some("two".to_owned()), canary());
        let outer = OfOperator::of(&config, token.as_ref(), "box");
        for (reference, is_shown) in [("one:kv/data/u?u", false), ("two:kv/data/u?u", true)] {
            let error = outer.read(reference).await.unwrap_err();
            assert_eq!(error.detail.contains("there is no token"), !is_shown, "{reference}: {error:?}");
        }
    }
}
