//! Who comes for a tenant's things: strangers with good credentials of their own, and those whose
//! credentials are missing, over, taken back or forged.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pasetors::keys::{AsymmetricKeyPair, Generate};
use pasetors::version4::{PublicToken, V4};
use prost_types::Timestamp;
use rateguard_proto::v1;
use rateguard_proto::v1::{KeyScope, Role};

use super::rows::Rows;
use super::{Headers, Person, Tenant, bearer, gateway_for};
use crate::tests::managed::mask;
use crate::tests::persons::{secret, tokens};
use crate::tests::world::{GATEWAY_TOKEN, World};

/// What access tokens are signed for, as the engine has it.
const PURPOSE: &[u8] = b"rateguard access token v1";
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 64;

/// Where a credential is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Where the method is.
    OfMethod,
    Public,
    Gateways,
}

/// How a caller stands to the tenant whose things they ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Known elsewhere.
    Stranger,
    /// Known elsewhere, and a viewer here, with a token for elsewhere.
    Guest,
    /// Was a member here.
    Removed,
    /// Nobody: whatever asks for a credential refuses this one.
    Unknown,
    /// Has a key that is known and worth nothing any more.
    Spent,
}

#[derive(Clone, Debug)]
pub struct Credential {
    pub name: String,
    pub headers: Headers,
    pub listener: Listener,
    pub standing: Standing,
}

impl Credential {
    fn new(name: impl Into<String>, headers: Headers, standing: Standing) -> Self {
        Self { name: name.into(), headers, listener: Listener::OfMethod, standing }
    }

    /// Whether a gateway shows it, for whomever.
    pub fn is_of_the_gateway(&self) -> bool {
        self.listener == Listener::Gateways && self.headers.starts_with(&bearer(GATEWAY_TOKEN))
    }

    fn at(self, listener: Listener) -> Self {
        Self { listener, ..self }
    }
}

/// Everybody of another tenant, by each role and each scope.
pub async fn strangers(world: &World, own: &Tenant, other: &Tenant) -> Vec<Credential> {
    let person = |(role, person): (&Role, &Person)| {
        Credential::new(format!("their {role:?}"), bearer(&person.access), Standing::Stranger)
    };
    let key = |(scope, key): (&KeyScope, &String)| {
        Credential::new(format!("their key for {scope:?}"), bearer(key), Standing::Stranger)
    };
    let mut strangers: Vec<_> = other.people.iter().map(person).collect();
    strangers.extend(other.keys.iter().map(key));
    strangers.push(Credential::new("their key", bearer(&other.key), Standing::Stranger));
    let app = gateway_for(&other.keys[&KeyScope::Gateway]);
    strangers
        .push(Credential::new("a gateway for their app", app, Standing::Stranger).at(Listener::Gateways));
    strangers.push(guest(world, own, other).await);
    strangers
}

/// An admin elsewhere who is a viewer here too, and went there from here.
async fn guest(world: &World, own: &Tenant, other: &Tenant) -> Credential {
    let (person, _) = other.registers(world, None).await;
    visits(world, own, &person, Role::Viewer).await;
    let token = visits(world, other, &person, Role::Admin).await;
    Credential::new("their admin who is a guest here", bearer(&token), Standing::Guest)
}

/// Makes somebody a member here too; gives their token for here.
async fn visits(world: &World, tenant: &Tenant, person: &Person, role: Role) -> String {
    let token = tenant.mailed_token(world, &person.email, role).await;
    let accept = v1::AcceptInvitationRequest { token: secret(&token) };
    let answer: v1::AcceptInvitationResponse =
        tenant.told(world, "MemberService/AcceptInvitation", &person.access, &accept).await;
    tokens(answer.grant).0
}

/// Somebody from elsewhere who was an admin here, with their token for here.
async fn removed(world: &World, tenant: &Tenant, other: &Tenant) -> Credential {
    let (person, _) = other.registers(world, None).await;
    let token = visits(world, tenant, &person, Role::Admin).await;
    let remove = v1::RemoveMemberRequest { user_id: person.id };
    let _: v1::RemoveMemberResponse =
        tenant.told(world, "MemberService/RemoveMember", &tenant.token(), &remove).await;
    Credential::new("a removed member", bearer(&token), Standing::Removed)
}

/// Everybody whose credential is no good.
pub async fn refused(world: &World, tenant: &Tenant, other: &Tenant, rows: &Rows) -> Vec<Credential> {
    let mut refused = vec![Credential::new("no credential", Headers::new(), Standing::Unknown)];
    refused.push(removed(world, tenant, other).await);
    refused.extend(spent(world, tenant).await);
    refused.extend(malformed(tenant, rows).await);
    refused.extend(of_gateways(tenant));
    let forged = forged(&tenant.token(), &other.token(), &elsewhere().await);
    let forged =
        forged.into_iter().map(|(name, token)| Credential::new(name, bearer(&token), Standing::Unknown));
    refused.extend(forged);
    refused
}

/// Credentials of the tenant's that were good once.
async fn spent(world: &World, tenant: &Tenant) -> Vec<Credential> {
    let unknown = |name: &str, token: &str| Credential::new(name, bearer(token), Standing::Unknown);
    let spent = |name: &str, key: &str| Credential::new(name, bearer(key), Standing::Spent);
    let left = tenant.logs_in(world, tenant.owner()).await;
    let _: v1::LogoutResponse =
        tenant.told(world, "AuthService/Logout", &left.access, &v1::LogoutRequest {}).await;
    let (deleted_id, deleted) = every_scope(world, tenant).await;
    let delete = v1::DeleteKeyRequest { id: deleted_id, etag: String::new() };
    let _: v1::DeleteKeyResponse = tenant.told(world, "KeyService/DeleteKey", &tenant.token(), &delete).await;
    vec![
        unknown("an access token that is too old", tenant.stale.as_deref().expect("a stale token")),
        unknown("the token of a session that has ended", &left.access),
        unknown("a deleted key", &deleted),
        spent("a disabled key", &disabled(world, tenant).await),
        spent("an expired key", &expired(world, tenant).await),
    ]
}

async fn every_scope(world: &World, tenant: &Tenant) -> (String, String) {
    tenant.makes_key(world, &super::SCOPES).await
}

async fn disabled(world: &World, tenant: &Tenant) -> String {
    let (id, key) = every_scope(world, tenant).await;
    let state = v1::KeyState::Disabled.into();
    update(world, tenant, v1::Key { id, state, ..v1::Key::default() }, "state").await;
    key
}

async fn expired(world: &World, tenant: &Tenant) -> String {
    let (id, key) = every_scope(world, tenant).await;
    let seconds = world.engine.now().get() / 1_000;
    let expire_time = Some(Timestamp { seconds: seconds + 1, nanos: 0 });
    update(world, tenant, v1::Key { id, expire_time, ..v1::Key::default() }, "expire_time").await;
    world.clock.advance_ms(1_000);
    key
}

async fn update(world: &World, tenant: &Tenant, key: v1::Key, field: &str) {
    let request = v1::UpdateKeyRequest { key: Some(key), update_mask: mask(&[field]) };
    let _: v1::UpdateKeyResponse =
        tenant.told(world, "KeyService/UpdateKey", &tenant.token(), &request).await;
}

/// What is no credential, though it is the tenant's, or nearly one.
async fn malformed(tenant: &Tenant, rows: &Rows) -> Vec<Credential> {
    let key = &tenant.key;
    let other_end = if key.ends_with('A') { "B" } else { "A" };
    let hash = rows.texts("SELECT lower(hex(secret_sha256)) FROM keys ORDER BY id LIMIT 1").await.remove(0);
    let tokens = [
        ("a key with another last character", format!("{}{other_end}", &key[..key.len() - 1])),
        ("a key that is cut short", key[..key.len() - 1].to_owned()),
        ("a key that goes on", format!("{key}A")),
        ("a key in capitals", key.to_uppercase()),
        ("a key with another label", key.replace("rg_live_", "rg_test_")),
        ("the shown part of a key", key[..12].to_owned()),
        ("the id of a key", tenant.thing("key")),
        ("the hash of a key", hash),
        ("a refresh token", tenant.owner().refresh.clone()),
        ("the id of a session", tenant.owner().session.clone()),
        ("the id of a person", tenant.owner().id.clone()),
        ("the id of the workspace", tenant.workspace.clone()),
        ("a password", tenant.owner().password.clone()),
    ];
    let mut malformed: Vec<_> =
        tokens.map(|(name, token)| Credential::new(name, bearer(&token), Standing::Unknown)).into();
    let bare = |name: &str, headers: Headers| Credential::new(name, headers, Standing::Unknown);
    malformed.push(bare("a key without a scheme", vec![("authorization", key.clone())]));
    malformed.push(bare("a key by another scheme", vec![("authorization", format!("Basic {key}"))]));
    malformed.push(bare("a key twice", [bearer(key), bearer(key)].concat()));
    malformed.push(bare("a key in another header", vec![("x-api-key", key.clone())]));
    let cookie = format!("rateguard_refresh={}", tenant.owner().refresh);
    malformed.push(bare("a refresh token in a cookie", vec![("cookie", cookie)]));
    malformed
}

/// Those who say that they are a gateway.
fn of_gateways(tenant: &Tenant) -> Vec<Credential> {
    let app = &tenant.keys[&KeyScope::Gateway];
    let for_app = |token: &str| [bearer(token), vec![("x-rateguard-on-behalf-of", app.clone())]].concat();
    let at_gateways =
        |name: &str, headers| Credential::new(name, headers, Standing::Unknown).at(Listener::Gateways);
    let public = Credential::new("a gateway at the public door", for_app(GATEWAY_TOKEN), Standing::Unknown);
    vec![
        public.at(Listener::Public),
        at_gateways("a gateway with another token", for_app("the-gateways-own-tokem")),
        at_gateways("a gateway for nobody", bearer(GATEWAY_TOKEN)),
        at_gateways("a gateway for a made-up app", gateway_for("rg_live_00000000000000000000000000000000")),
        at_gateways("an app that names itself", vec![("x-rateguard-on-behalf-of", app.clone())]),
    ]
}

/// An access token of another installation.
async fn elsewhere() -> String {
    World::new().await.someone("owner").await.access
}

/// The parts of a token: claims, signature and footer.
fn parts(token: &str) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let parts: Vec<_> = token.split('.').skip(2).map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    let (claims, signature) = parts[0].split_at(parts[0].len() - SIGNATURE_BYTES);
    (claims.to_vec(), signature.to_vec(), parts[1].clone())
}

fn written(claims: &[u8], signature: &[u8], footer: &[u8]) -> String {
    let body = URL_SAFE_NO_PAD.encode([claims, signature].concat());
    format!("v4.public.{body}.{}", URL_SAFE_NO_PAD.encode(footer))
}

/// Tokens that nobody of the installation has signed, made of a good one, of a stranger's and of one of
/// another installation.
fn forged(good: &str, strangers: &str, elsewhere: &str) -> Vec<(&'static str, String)> {
    let (claims, signature, footer) = parts(good);
    let mut forged = altered(&claims, &signature, &footer, strangers);
    let (other_claims, other_signature, other_footer) = parts(elsewhere);
    forged.extend([
        ("a token of another installation", elsewhere.to_owned()),
        (
            "one of another installation under our key's name",
            written(&other_claims, &other_signature, &footer),
        ),
        ("our claims signed elsewhere", written(&claims, &other_signature, &other_footer)),
    ]);
    forged.extend(signed_by_others(&claims, &footer));
    forged.extend(of_other_kinds(good, &claims));
    forged
}

fn altered(claims: &[u8], signature: &[u8], footer: &[u8], strangers: &str) -> Vec<(&'static str, String)> {
    let mut bent = signature.to_vec();
    bent[SIGNATURE_BYTES - 1] ^= 1;
    let text = String::from_utf8(claims.to_vec()).unwrap();
    let longer = text.replace("\"end\":1", "\"end\":9");
    let (_, strangers_signature, strangers_footer) = parts(strangers);
    assert_ne!(longer, text, "claims have an end");
    vec![
        ("a token with another signature", written(claims, &bent, footer)),
        ("a token without its signature", written(claims, &[], footer)),
        ("a token of zeros for a signature", written(claims, &[0; SIGNATURE_BYTES], footer)),
        ("a token that lasts longer", written(longer.as_bytes(), signature, footer)),
        ("our claims under a stranger's signature", written(claims, &strangers_signature, &strangers_footer)),
        ("a token without its footer", written(claims, signature, b"").trim_end_matches('.').to_owned()),
        ("a token with another key's name", written(claims, signature, b"sgn_0")),
        ("a token with two footers", format!("{}.{}", written(claims, signature, footer), "c2du")),
        ("a token in which something follows", format!("{}A", written(claims, signature, footer))),
    ]
}

fn signed_by_others(claims: &[u8], footer: &[u8]) -> Vec<(&'static str, String)> {
    let pair = AsymmetricKeyPair::<V4>::generate().unwrap();
    let sign = |footer: Option<&[u8]>, purpose: Option<&[u8]>| {
        PublicToken::sign(&pair.secret, claims, footer, purpose).unwrap()
    };
    vec![
        ("a token signed by another key under our key's name", sign(Some(footer), Some(PURPOSE))),
        ("a token signed by another key without a name", sign(None, Some(PURPOSE))),
        ("a token signed by another key for nothing", sign(Some(footer), None)),
        ("a token that brings its key along", sign(Some(pair.public.as_bytes()), Some(PURPOSE))),
    ]
}

fn of_other_kinds(good: &str, claims: &[u8]) -> Vec<(&'static str, String)> {
    let rest = good.trim_start_matches("v4.public.");
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwt = |header: &str, signature: &str| {
        format!("{}.{}.{signature}", encode(header.as_bytes()), encode(claims))
    };
    vec![
        ("a token of the local kind", format!("v4.local.{rest}")),
        ("a token of version 3", format!("v3.public.{rest}")),
        ("a token of version 2", format!("v2.public.{rest}")),
        ("a token of version 1", format!("v1.public.{rest}")),
        ("a JWT without an algorithm", jwt(r#"{"alg":"none","typ":"JWT"}"#, "")),
        ("a JWT with a shared secret", jwt(r#"{"alg":"HS256","typ":"JWT"}"#, &encode(&[7; 32]))),
        ("bare claims", encode(claims)),
        ("nothing of a token", "v4.public.".to_owned()),
    ]
}
