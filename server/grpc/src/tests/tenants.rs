//! Tenants with something of everything, each thing with texts that stand nowhere else.

pub mod asked;
pub mod channel;
pub mod credentials;
pub mod fields;
pub mod marks;
pub mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use prost::Message;
use prost_types::Timestamp;
use rateguard_proto::v1;
use rateguard_proto::v1::{KeyScope, Role};
use tonic::Code;

use self::channel::{Answer, ask};
use self::marks::Marks;
use super::managed::{fixed_window, usd};
use super::persons::{secret, tokens};
use super::provider::Returned;
use super::world::{ACCESS_MS, GATEWAY_TOKEN, START_MS, World};
use crate::auth::ON_BEHALF_OF;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// Characters of a key that say nothing of it.
const KEY_LABEL_CHARS: usize = 8;
/// The scopes that keys are made with, one each.
pub const SCOPES: [KeyScope; 5] =
    [KeyScope::Quota, KeyScope::Usage, KeyScope::Gateway, KeyScope::Manage, KeyScope::Read];
/// What the tenants' model costs for a million tokens.
const RATE: &str = "2.5";

/// Headers that show who calls.
pub type Headers = Vec<(&'static str, String)>;

/// The headers of whoever comes with a token or a key.
pub fn bearer(token: &str) -> Headers {
    vec![("authorization", format!("Bearer {token}"))]
}

/// The headers of a gateway that acts for an app.
pub fn gateway_for(app_key: &str) -> Headers {
    [bearer(GATEWAY_TOKEN), vec![(ON_BEHALF_OF, app_key.to_owned())]].concat()
}

/// The day of the tests, which holds every call.
pub fn day() -> Option<v1::TimeRange> {
    let at = |ms: i64| Some(Timestamp { seconds: ms.div_euclid(DAY_MS) * DAY_MS / 1_000, nanos: 0 });
    Some(v1::TimeRange { start_time: at(START_MS), end_time: at(START_MS + DAY_MS) })
}

/// Calls a method as a router has it.
pub async fn call(world: &World, path: &str, headers: &Headers, message: &[u8]) -> Answer {
    let internal = path.starts_with("/rateguard.internal.");
    ask(if internal { &world.gateways } else { &world.public }, path, headers, message).await
}

/// A person with a password of their own.
#[derive(Clone, Debug)]
pub struct Person {
    pub id: String,
    pub email: String,
    pub password: String,
    pub session: String,
    pub access: String,
    pub refresh: String,
}

/// A workspace, its people and what they have made.
pub struct Tenant {
    tag: &'static str,
    planted: Mutex<(u32, Marks)>,
    /// The ids of its workspaces and people: whose rows are its own.
    owners: Mutex<BTreeSet<String>>,
    pub workspace: String,
    /// OWNER, ADMIN, MEMBER and VIEWER.
    pub people: BTreeMap<Role, Person>,
    /// A token of the owner's that is too old, where there is one.
    pub stale: Option<String>,
    /// A key for each scope.
    pub keys: BTreeMap<KeyScope, String>,
    /// A key with every scope but the gateway's.
    pub key: String,
    /// Its things by their kind: ids, slugs, subjects and so on.
    pub things: BTreeMap<&'static str, String>,
}

impl Tenant {
    /// Builds one. With `ages`, an hour passes after its owner has come in for the first time.
    pub async fn build(world: &World, tag: &'static str, ages: bool) -> Self {
        let mut tenant = Self {
            tag,
            planted: Mutex::default(),
            owners: Mutex::default(),
            workspace: String::new(),
            people: BTreeMap::new(),
            stale: None,
            keys: BTreeMap::new(),
            key: String::new(),
            things: BTreeMap::new(),
        };
        tenant.people_come(world, ages).await;
        tenant.keys_are_made(world).await;
        tenant.limits_are_set(world).await;
        tenant.calls_are_made(world).await;
        world.engine.roll_up().await.unwrap();
        tenant
    }

    /// A new text that stands nowhere else.
    pub fn mark(&self) -> String {
        let mut planted = self.planted.lock().unwrap();
        planted.0 += 1;
        let number = planted.0;
        planted.1.plant(self.tag, number)
    }

    /// A name for people.
    pub fn name(&self) -> String {
        format!("name {}", self.mark())
    }

    pub fn email(&self) -> String {
        format!("{}@example.com", self.mark())
    }

    /// One of its things.
    pub fn thing(&self, kind: &str) -> String {
        self.things.get(kind).unwrap_or_else(|| panic!("tenant {} has no {kind}", self.tag)).clone()
    }

    pub fn owner(&self) -> &Person {
        &self.people[&Role::Owner]
    }

    /// The owner's token.
    pub fn token(&self) -> String {
        self.owner().access.clone()
    }

    pub fn owners(&self) -> BTreeSet<String> {
        self.owners.lock().unwrap().clone()
    }

    pub fn owns(&self, id: &str) {
        self.owners.lock().unwrap().insert(id.to_owned());
    }

    /// A secret that no answer to others may hold.
    fn hides(&self, secret: &str) {
        self.planted.lock().unwrap().1.add(secret);
    }

    pub fn planted(&self) -> Marks {
        self.planted.lock().unwrap().1.clone()
    }

    /// Calls a method of the public package, which must be good.
    pub async fn told<A: Message + Default>(
        &self,
        world: &World,
        method: &str,
        token: &str,
        message: &impl Message,
    ) -> A {
        let path = format!("/rateguard.v1.{method}");
        let answer = call(world, &path, &bearer(token), &message.encode_to_vec()).await;
        assert_eq!(answer.status.code(), Code::Ok, "{method}: {:?}", answer.status);
        A::decode(&answer.messages[0][..]).unwrap()
    }

    async fn people_come(&mut self, world: &World, ages: bool) {
        let (owner, workspace) = self.registers(world, None).await;
        self.workspace = workspace;
        self.owns(&self.workspace);
        let owner = if ages { self.comes_back(world, owner).await } else { owner };
        self.people.insert(Role::Owner, owner);
        for role in [Role::Admin, Role::Member, Role::Viewer] {
            let person = self.joins(world, role).await;
            self.people.insert(role, person);
        }
        let kept = [
            ("workspace", self.workspace.clone()),
            ("owner", self.owner().id.clone()),
            ("user", self.people[&Role::Member].id.clone()),
            ("session", self.owner().session.clone()),
            ("email", self.people[&Role::Viewer].email.clone()),
            ("invitation", self.invites(world, &self.email(), Role::Viewer).await.id),
        ];
        self.things.extend(kept);
        self.second_ones_come(world).await;
    }

    /// A second invitation, session and workspace of the owner's: no list of theirs is one page of one.
    async fn second_ones_come(&self, world: &World) {
        self.invites(world, &self.email(), Role::Viewer).await;
        self.logs_in(world, self.owner()).await;
        let draft = v1::Workspace { display_name: self.name(), ..v1::Workspace::default() };
        let create = v1::CreateWorkspaceRequest { workspace: Some(draft), ..Default::default() };
        let made: v1::CreateWorkspaceResponse =
            self.told(world, "WorkspaceService/CreateWorkspace", &self.token(), &create).await;
        self.owns(&made.workspace.unwrap().id);
    }

    /// An hour passes, and a person logs in anew.
    async fn comes_back(&mut self, world: &World, person: Person) -> Person {
        world.clock.advance_ms(ACCESS_MS);
        self.stale = Some(person.access.clone());
        self.logs_in(world, &person).await
    }

    /// Registers somebody, with a workspace of their own unless they are invited.
    pub async fn registers(&self, world: &World, invitation: Option<(String, String)>) -> (Person, String) {
        let (email, token) = invitation.unwrap_or_else(|| (self.email(), String::new()));
        let password = format!("password {}", self.mark());
        let request = v1::RegisterRequest {
            email: email.clone(),
            password: secret(&password),
            display_name: self.name(),
            invitation_token: secret(&token),
            workspace_display_name: self.name(),
            ..v1::RegisterRequest::default()
        };
        let answer: v1::RegisterResponse = self.told(world, "AuthService/Register", "", &request).await;
        let (access, refresh, workspace) = tokens(answer.grant);
        let id = answer.user.unwrap().id;
        self.owns(&id);
        self.hides(&refresh);
        let session = self.session_of(world, &access).await;
        (Person { id, email, password, session, access, refresh }, workspace)
    }

    async fn session_of(&self, world: &World, access: &str) -> String {
        let me: v1::GetMeResponse = self.told(world, "AuthService/GetMe", access, &v1::GetMeRequest {}).await;
        me.session_id
    }

    /// The same person with a new session.
    pub async fn logs_in(&self, world: &World, person: &Person) -> Person {
        let request = v1::LoginRequest {
            email: person.email.clone(),
            password: secret(&person.password),
            workspace_id: String::new(),
        };
        let answer: v1::LoginResponse = self.told(world, "AuthService/Login", "", &request).await;
        let (access, refresh, _) = tokens(answer.grant);
        self.hides(&refresh);
        let session = self.session_of(world, &access).await;
        Person { session, access, refresh, ..person.clone() }
    }

    /// An open invitation by mail.
    pub async fn invites(&self, world: &World, email: &str, role: Role) -> v1::Invitation {
        let request =
            v1::InviteMemberRequest { email: email.to_owned(), role: role.into(), ..Default::default() };
        let answer: v1::InviteMemberResponse =
            self.told(world, "MemberService/InviteMember", &self.token(), &request).await;
        answer.invitation.unwrap()
    }

    /// The token of an invitation that goes to an address.
    pub async fn mailed_token(&self, world: &World, email: &str, role: Role) -> String {
        self.invites(world, email, role).await;
        let mail = world.outbox.sent.lock().unwrap().pop().expect("a mail");
        let token = mail.text.expose().split("#token=").nth(1).and_then(|rest| rest.lines().next());
        let token = token.expect("a token in the mail");
        self.hides(token);
        token.to_owned()
    }

    /// A new person of the workspace.
    pub async fn joins(&self, world: &World, role: Role) -> Person {
        let email = self.email();
        let token = self.mailed_token(world, &email, role).await;
        self.registers(world, Some((email, token))).await.0
    }

    /// Somebody of the tenant's begins a log-in at the provider, and comes back from there.
    pub async fn visits_provider(&self, world: &World, email: &str) -> Returned {
        let begin = v1::BeginOidcLoginRequest {};
        let begun: v1::BeginOidcLoginResponse =
            self.told(world, "AuthService/BeginOidcLogin", "", &begin).await;
        let returned = world.provider().visit_as(&begun, &self.mark(), email);
        self.hides(&returned.login_id);
        returned
    }

    async fn keys_are_made(&mut self, world: &World) {
        for scope in SCOPES {
            let (_, key) = self.makes_key(world, &[scope]).await;
            self.keys.insert(scope, key);
        }
        let scopes = SCOPES.into_iter().filter(|scope| *scope != KeyScope::Gateway).collect::<Vec<_>>();
        let (id, key) = self.makes_key(world, &scopes).await;
        self.key = key;
        self.things.insert("key", id);
    }

    /// The id of a new key, and the key.
    pub async fn makes_key(&self, world: &World, scopes: &[KeyScope]) -> (String, String) {
        let scopes = scopes.iter().map(|scope| (*scope).into()).collect();
        let key =
            v1::Key { display_name: self.name(), scopes, allow_subject_header: true, ..v1::Key::default() };
        let request = v1::CreateKeyRequest { key: Some(key), ..Default::default() };
        let answer: v1::CreateKeyResponse =
            self.told(world, "KeyService/CreateKey", &self.token(), &request).await;
        let key = answer.secret.unwrap().value;
        self.hides(&key[KEY_LABEL_CHARS..]);
        (answer.key.unwrap().id, key)
    }

    /// APIs, rules, budgets and prices: two of each, so that lists have pages.
    async fn limits_are_set(&mut self, world: &World) {
        for kind in ["subject", "model", "endpoint", "event", "request", "name"] {
            let mark = if kind == "endpoint" { format!("/{}", self.mark()) } else { self.mark() };
            self.things.insert(kind, mark);
        }
        for _ in 0..2 {
            let api = self.makes_api(world).await;
            let (rule, budget) = (self.makes_rule(world).await, self.makes_budget(world).await);
            let price = self.makes_price(world, &self.mark()).await;
            let kept =
                [("api", api.id), ("slug", api.slug), ("rule", rule), ("budget", budget), ("price", price)];
            self.things.extend(kept);
        }
        let price = self.makes_price(world, &self.thing("model")).await;
        self.things.insert("price", price);
        for _ in 0..2 {
            self.tops_up(world).await;
        }
    }

    /// Tops its budget up.
    async fn tops_up(&self, world: &World) {
        let request = v1::TopUpBudgetRequest {
            budget_id: self.thing("budget"),
            amount: usd(1_000_000_000),
            request_id: self.mark(),
            note: self.name(),
        };
        let _: v1::TopUpBudgetResponse =
            self.told(world, "BudgetService/TopUpBudget", &self.token(), &request).await;
    }

    pub async fn makes_api(&self, world: &World) -> v1::Api {
        let slug = self.mark();
        let api = v1::Api {
            display_name: self.name(),
            base_url: format!("https://{}.example.com/v1", self.mark()),
            auth_scheme: v1::ApiAuthScheme::Bearer.into(),
            credential: secret(&format!("sk-{}", self.mark())),
            slug,
            ..v1::Api::default()
        };
        let request = v1::CreateApiRequest { api: Some(api), ..Default::default() };
        let answer: v1::CreateApiResponse =
            self.told(world, "ApiService/CreateApi", &self.token(), &request).await;
        answer.api.unwrap()
    }

    /// A rule for the tenant's subject.
    pub fn rule(&self) -> v1::Rule {
        let subjects = vec![self.thing("subject")];
        v1::Rule {
            display_name: self.name(),
            r#match: Some(v1::CallMatch { subjects, ..v1::CallMatch::default() }),
            algorithm: fixed_window(1_000_000),
            override_group: String::new(),
            ..v1::Rule::default()
        }
    }

    pub async fn makes_rule(&self, world: &World) -> String {
        let request = v1::CreateRuleRequest { rule: Some(self.rule()), ..Default::default() };
        let answer: v1::CreateRuleResponse =
            self.told(world, "RuleService/CreateRule", &self.token(), &request).await;
        answer.rule.unwrap().id
    }

    /// A budget for the tenant's subject.
    pub fn budget(&self) -> v1::Budget {
        let subjects = vec![self.thing("subject")];
        v1::Budget {
            display_name: self.name(),
            r#match: Some(v1::CallMatch { subjects, ..v1::CallMatch::default() }),
            amount: usd(1_000_000_000_000),
            period: Some(v1::budget::Period::Prepaid(v1::PrepaidBudget {})),
            ..v1::Budget::default()
        }
    }

    pub async fn makes_budget(&self, world: &World) -> String {
        let request = v1::CreateBudgetRequest { budget: Some(self.budget()), ..Default::default() };
        let answer: v1::CreateBudgetResponse =
            self.told(world, "BudgetService/CreateBudget", &self.token(), &request).await;
        answer.budget.unwrap().id
    }

    /// A price of a model of the provider that has the tenant's mark.
    pub fn price(&self, model: &str) -> v1::Price {
        let input = Some(RATE.to_owned());
        v1::Price {
            provider: "openai".to_owned(),
            model: model.to_owned(),
            token_rates: Some(v1::TokenRates { input, ..v1::TokenRates::default() }),
            ..v1::Price::default()
        }
    }

    pub async fn makes_price(&self, world: &World, model: &str) -> String {
        let request = v1::CreatePriceOverrideRequest { price: Some(self.price(model)), ..Default::default() };
        let answer: v1::CreatePriceOverrideResponse =
            self.told(world, "PriceService/CreatePriceOverride", &self.token(), &request).await;
        answer.price.unwrap().id
    }

    /// A check of a call of the tenant's subject.
    pub fn check(&self, request_id: &str) -> v1::CheckQuotaRequest {
        v1::CheckQuotaRequest {
            request_id: request_id.to_owned(),
            api: self.thing("slug"),
            endpoint: self.thing("endpoint"),
            subject: self.thing("subject"),
            model: self.thing("model"),
            ..v1::CheckQuotaRequest::default()
        }
    }

    pub fn record(&self, event_id: &str) -> v1::UsageRecord {
        v1::UsageRecord {
            event_id: event_id.to_owned(),
            request_id: self.thing("request"),
            api: self.thing("slug"),
            endpoint: self.thing("endpoint"),
            subject: self.thing("subject"),
            model: self.thing("model"),
            tokens: Some(v1::TokenUsage { input_total: Some(1_000), ..v1::TokenUsage::default() }),
            status_code: 200,
            ..v1::UsageRecord::default()
        }
    }

    pub async fn checks(&self, world: &World, request: &v1::CheckQuotaRequest) -> v1::CheckQuotaResponse {
        self.told(world, "QuotaService/CheckQuota", &self.key, request).await
    }

    /// A check that holds money for a call.
    fn reservation(&self) -> v1::CheckQuotaRequest {
        let estimate = v1::Estimate { cost: usd(1_000), ..v1::Estimate::default() };
        let mode = v1::CheckMode::Reserve.into();
        v1::CheckQuotaRequest { mode, estimate: Some(estimate), ..self.check(&self.mark()) }
    }

    /// The id of money held for a call.
    pub async fn reserves(&self, world: &World) -> String {
        self.checks(world, &self.reservation()).await.reservation_id
    }

    /// Units for calls of a subject without limits that keep them from being leased.
    pub fn lease(&self) -> v1::LeaseQuotaRequest {
        let wish = v1::LeaseWish { unit: "requests".to_owned(), amount: 10, least: 1 };
        v1::LeaseQuotaRequest { subject: self.mark(), wishes: vec![wish], ..v1::LeaseQuotaRequest::default() }
    }

    /// The id of units that it has in advance.
    pub async fn leases(&self, world: &World) -> String {
        let answer: v1::LeaseQuotaResponse =
            self.told(world, "QuotaService/LeaseQuota", &self.key, &self.lease()).await;
        answer.lease_id
    }

    /// The same for a call through a gateway.
    pub async fn reserves_by_gateway(&self, world: &World) -> String {
        let headers = gateway_for(&self.keys[&KeyScope::Gateway]);
        let request = self.reservation().encode_to_vec();
        let path = "/rateguard.v1.QuotaService/CheckQuota";
        let answer = ask(&world.gateways, path, &headers, &request).await;
        assert_eq!(answer.status.code(), Code::Ok, "{:?}", answer.status);
        v1::CheckQuotaResponse::decode(&answer.messages[0][..]).unwrap().reservation_id
    }

    pub async fn reports(&self, world: &World, records: Vec<v1::UsageRecord>) {
        let request = v1::ReportUsageRequest { records };
        let answer: v1::ReportUsageResponse =
            self.told(world, "UsageService/ReportUsage", &self.key, &request).await;
        let accepted = |result: &v1::RecordResult| result.status() == v1::RecordStatus::Accepted;
        assert!(answer.results.iter().all(accepted), "{answer:?}");
    }

    async fn calls_are_made(&mut self, world: &World) {
        self.checks(world, &self.check(&self.thing("request"))).await;
        let reservation = self.reserves(world).await;
        let marked = v1::UsageRecord {
            dimensions: [("plan".to_owned(), self.mark())].into(),
            error_type: self.mark(),
            service_tier: self.mark(),
            ..self.record(&self.mark())
        };
        self.reports(world, vec![self.record(&self.thing("event")), marked]).await;
        self.things.insert("reservation", reservation);
    }
}
