//! Nothing of one workspace is read or changed from another: not a sample of the methods, each of them,
//! with every kind of credential that is not the tenant's.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{DynamicMessage, MethodDescriptor, Value};
use rateguard_proto::access::{self, Access};
use rateguard_proto::v1::{ErrorReason as R, GatewayUse};
use tonic::{Code, Status};

use super::fuzz::methods;
use super::tenants::asked::{Asked, asked, path};
use super::tenants::channel::{Answer, ask};
use super::tenants::credentials::{Credential, Listener, Standing, refused, strangers};
use super::tenants::fields::undecided;
use super::tenants::marks::Marks;
use super::tenants::rows::Rows;
use super::tenants::{Tenant, call};
use super::world::{World, told};

/// What only reads, by the beginning of its name, so that nothing of its request is kept.
const READS: [&str; 5] = ["Get", "List", "Query", "Export", "Watch"];
/// The same, by its whole name.
const READS_TOO: [&str; 4] = ["Check", "ResolveRoute", "PriceUsage", "ServerReflectionInfo"];
/// Reading methods whose answers are sums and states without names beyond those in the request, or the
/// same to everybody.
const SHOWS_NO_NAMES: [&str; 7] =
    ["GetAuthMethods", "GetSummary", "PriceUsage", "Check", "Watch", "WatchRoutes", "ServerReflectionInfo"];
/// Whose answers about somebody's things and about nobody's differ, and why that is right.
const MAY_DIFFER: [(&str, &str); 2] = [
    ("/rateguard.v1.AuthService/Register", "an e-mail address has one account in the installation"),
    ("/rateguard.v1.ConfigurationService/ApplyWorkspace", "it lists what the call before has made"),
];

fn is_read(method: &MethodDescriptor) -> bool {
    READS.iter().any(|begin| method.name().starts_with(begin)) || READS_TOO.contains(&method.name())
}

/// Whether neither the method nor what its request needs makes anything.
fn makes_nothing(method: &MethodDescriptor) -> bool {
    is_read(method) && method.name() != "PriceUsage"
}

/// Readers first, while the other tenant knows nothing of this one; then changes, then what is made, and
/// log-outs last, which end the credentials.
fn in_order() -> Vec<MethodDescriptor> {
    let rank = |method: &MethodDescriptor| match method.name() {
        "Logout" => 3,
        name if name.starts_with("Create") || name.starts_with("Apply") => 2,
        _ if is_read(method) => 0,
        _ => 1,
    };
    let mut methods = methods();
    methods.sort_by_key(rank);
    methods
}

/// Everything of a tenant, as its owner sees it and as it is stored.
#[derive(PartialEq, Eq)]
struct State {
    seen: BTreeMap<String, Vec<u8>>,
    rows: BTreeSet<String>,
}

impl State {
    fn assert_same(&self, before: &Self, path: &str) {
        let gone: Vec<_> = before.rows.difference(&self.rows).collect();
        let new: Vec<_> = self.rows.difference(&before.rows).collect();
        assert!(gone.is_empty() && new.is_empty(), "{path} changed rows: {gone:#?} became {new:#?}");
        for (what, answer) in &self.seen {
            assert_eq!(Some(answer), before.seen.get(what), "{path} changed what {what} shows");
        }
    }
}

/// How much was walked.
#[derive(Default)]
struct Tally {
    methods: BTreeSet<String>,
    credentials: BTreeSet<String>,
    calls: usize,
    twins: usize,
    owns: usize,
    shown: usize,
}

struct Walk {
    world: World,
    own: Tenant,
    rows: Rows,
    strangers: Vec<Credential>,
    refused: Vec<Credential>,
    /// What the other tenant's rows name: nobody's secret here.
    theirs: Marks,
    /// What the other tenant has written down itself, and so may read.
    written: Marks,
    tally: Tally,
    /// The state after the last method, which only reads.
    last: Option<State>,
}

impl Walk {
    async fn begin() -> Self {
        let world = World::with_provider(|_| {}).await;
        let own = Tenant::build(&world, "a", true).await;
        let other = Tenant::build(&world, "b", false).await;
        let rows = Rows::open(world.folder()).await;
        let ours = ids_of(&rows, &own.owners()).await;
        let strangers = strangers(&world, &own, &other).await;
        let refused = refused(&world, &own, &other, &rows).await;
        // Guests stand in the rows of both.
        let theirs = ids_of(&rows, &other.owners()).await.without(&ours);
        let (written, tally) = (Marks::default(), Tally::default());
        Self { world, own, rows, strangers, refused, theirs, written, tally, last: None }
    }

    async fn marks(&self) -> Marks {
        let mut marks = ids_of(&self.rows, &self.own.owners()).await;
        marks.join(&self.own.planted());
        marks.without(&self.theirs)
    }

    /// Uses each credential of the tenant's that the walk will use: a key's last use is a part of what
    /// its owner sees.
    async fn look_around(&self) {
        for method in methods().iter().filter(|method| makes_nothing(method)) {
            for asked in asked(&self.world, &self.own, method).await {
                call(&self.world, &path(method), &asked.by, &asked.own).await;
            }
        }
    }

    async fn state(&self) -> State {
        self.world.engine.roll_up().await.unwrap();
        let mut seen = BTreeMap::new();
        let readers = methods().into_iter().filter(is_read);
        for method in readers.filter(|method| method.full_name().starts_with("rateguard.v1.")) {
            for (number, asked) in asked(&self.world, &self.own, &method).await.into_iter().enumerate() {
                let answer = call(&self.world, &path(&method), &asked.by, &asked.own).await;
                assert_eq!(answer.status.code(), Code::Ok, "{}: {:?}", method.full_name(), answer.status);
                seen.insert(format!("{} ({number})", method.full_name()), answer.messages.concat());
            }
        }
        State { seen, rows: self.rows.of(&self.own.owners()).await }
    }

    /// The state before a method is walked: the last one, as long as nothing was made or changed since.
    async fn state_before(&mut self, method: &MethodDescriptor) -> State {
        match self.last.take().filter(|_| makes_nothing(method)) {
            Some(last) => last,
            None => self.state().await,
        }
    }

    async fn method(&mut self, method: &MethodDescriptor) {
        let path = path(method);
        let mut shown = Marks::default();
        let asked = asked(&self.world, &self.own, method).await;
        let (marks, before) = (self.marks().await, self.state_before(method).await);
        for asked in &asked {
            for credential in self.strangers.clone() {
                self.stranger(method, asked, &credential, &marks).await;
            }
            for credential in self.refused.clone() {
                self.refusal(method, asked, &credential, &marks).await;
            }
        }
        let after = self.state().await;
        after.assert_same(&before, &path);
        for asked in &asked {
            shown.join(&self.own(method, asked, &marks).await);
        }
        if is_read(method) && !SHOWS_NO_NAMES.contains(&method.name()) {
            assert_ne!(shown.len(), 0, "{path} shows its owner nothing that could be told from others'");
            self.tally.shown += 1;
        }
        self.last = makes_nothing(method).then_some(after);
        self.tally.methods.insert(path);
    }

    async fn ask(&mut self, path: &str, credential: &Credential, message: &[u8]) -> Answer {
        let internal = path.starts_with("/rateguard.internal.");
        let at_gateways = match credential.listener {
            Listener::OfMethod => internal,
            Listener::Public => false,
            Listener::Gateways => true,
        };
        let router = if at_gateways { &self.world.gateways } else { &self.world.public };
        self.tally.calls += 1;
        self.tally.credentials.insert(credential.name.clone());
        ask(router, path, &credential.headers, message).await
    }

    /// Somebody of another tenant asks: nothing comes back that they did not bring, and they are told the
    /// same as about things that were never there.
    async fn stranger(
        &mut self,
        method: &MethodDescriptor,
        asked: &Asked,
        credential: &Credential,
        marks: &Marks,
    ) {
        let path = path(method);
        if is_passed_over(&path, credential) {
            return;
        }
        let what = format!("{path} by {}", credential.name);
        let answer = self.ask(&path, credential, &asked.foreign).await;
        self.tells_nothing(&what, (asked, credential), &answer, marks);
        if answer.status.code() == Code::Ok && !is_read(method) {
            self.written.join(&marks.found_in(&asked.foreign));
        }
        let twin = marks.twin_of(&asked.foreign);
        let may_differ = MAY_DIFFER.iter().any(|(known, _)| *known == path);
        if twin != asked.foreign && !may_differ {
            let of_nobody = self.ask(&path, credential, &twin).await;
            assert_eq!(shape(method, &answer), shape(method, &of_nobody), "{what} tells what exists");
            self.tally.twins += 1;
        }
    }

    fn tells_nothing(
        &self,
        what: &str,
        (asked, credential): (&Asked, &Credential),
        answer: &Answer,
        marks: &Marks,
    ) {
        documented(what, &answer.status);
        let mut brought = marks.found_in(&asked.foreign);
        if credential.standing == Standing::Removed {
            // Their token says where it was good.
            credential.headers.iter().for_each(|(_, value)| brought.join(&marks.found_in(value.as_bytes())));
        }
        let told = marks.found_in(&answer.bytes()).without(&brought).without(&self.written);
        assert_eq!(told.len(), 0, "{what} told {told}: {answer:?}");
    }

    /// Somebody without a good credential asks: they are refused wherever a credential is asked for.
    async fn refusal(
        &mut self,
        method: &MethodDescriptor,
        asked: &Asked,
        credential: &Credential,
        marks: &Marks,
    ) {
        let path = path(method);
        if is_passed_over(&path, credential) {
            return;
        }
        let what = format!("{path} by {}", credential.name);
        let answer = self.ask(&path, credential, &asked.foreign).await;
        self.tells_nothing(&what, (asked, credential), &answer, marks);
        let code = answer.status.code();
        match (credential.standing, access::of(&path)) {
            // Health and reflection, and the ways in: no credential is looked at.
            (_, None | Some(Access::Everybody)) => {}
            (Standing::Removed, Some(Access::AnyPerson)) => {}
            (Standing::Removed, _) if !path.starts_with("/rateguard.internal.") => {
                assert_eq!((code, reason(&answer)), (Code::PermissionDenied, R::RoleMissing), "{what}");
            }
            (Standing::Spent, _) => {
                assert_eq!(code, Code::PermissionDenied, "{what}: {:?}", answer.status);
                assert!(matches!(reason(&answer), R::KeyExpired | R::KeyDisabled), "{what}");
            }
            _ => assert_eq!(code, Code::Unauthenticated, "{what}: {:?}", answer.status),
        }
    }

    /// The tenant asks for the same, and gets it: its marks that come back.
    async fn own(&mut self, method: &MethodDescriptor, asked: &Asked, marks: &Marks) -> Marks {
        let path = path(method);
        let answer = call(&self.world, &path, &asked.by, &asked.own).await;
        assert_eq!(answer.status.code(), Code::Ok, "{path} by the tenant itself: {:?}", answer.status);
        self.tally.owns += 1;
        marks.found_in(&answer.bytes()).without(&marks.found_in(&asked.own))
    }
}

async fn ids_of(rows: &Rows, owners: &BTreeSet<String>) -> Marks {
    let mut marks = Marks::default();
    for row in rows.of(owners).await {
        marks.join(&Marks::ids_in(&row));
    }
    marks
}

/// A guest may look at both workspaces where a person is asked for; a gateway by itself is no tenant's.
fn is_passed_over(path: &str, credential: &Credential) -> bool {
    match access::of(path) {
        Some(Access::Named(named)) => {
            named.gateway_use == Some(GatewayUse::Itself) && credential.is_of_the_gateway()
        }
        _ => credential.standing == Standing::Guest,
    }
}

fn reason(answer: &Answer) -> R {
    told(&answer.status).1
}

/// A refusal is in the words of the contract.
fn documented(what: &str, status: &Status) {
    if status.code() != Code::Ok {
        let (code, ..) = told(status);
        assert!(!matches!(code, Code::Internal | Code::Unknown | Code::DataLoss), "{what}: {status:?}");
    }
}

/// An answer without the texts in it.
fn shape(method: &MethodDescriptor, answer: &Answer) -> String {
    if answer.status.code() != Code::Ok {
        return format!("{:?}", told(&answer.status));
    }
    let messages = answer.messages.iter().map(|message| {
        let message = DynamicMessage::decode(method.output(), &message[..]).unwrap();
        outline(&Value::Message(message))
    });
    messages.collect()
}

fn outline(value: &Value) -> String {
    match value {
        Value::String(_) | Value::Map(_) => "…".to_owned(),
        Value::List(elements) => format!("[{}]", elements.iter().map(outline).collect::<Vec<_>>().join(", ")),
        Value::Message(message) => {
            let fields =
                message.fields().map(|(field, value)| format!("{}: {}", field.name(), outline(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        value => format!("{value:?}"),
    }
}

#[test]
fn of_every_text_in_a_request_it_is_known_whether_it_names_something() {
    let undecided = undecided(&methods());
    assert!(
        undecided.is_empty(),
        "say in the table of fields what these name, or that they do not: {undecided:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_workspace_is_told_or_changed_by_any_method_with_any_other_credential() {
    let mut walk = Walk::begin().await;
    walk.look_around().await;
    for method in in_order() {
        walk.method(&method).await;
    }
    let Tally { methods, credentials, calls, twins, owns, shown } = &walk.tally;
    println!(
        "isolation: {} methods x {} credentials, {calls} calls; {twins} compared with calls about nothing; \
         {owns} good ones by the tenant itself; {shown} methods show its marks",
        methods.len(),
        credentials.len(),
    );
    assert_eq!(methods.len(), super::fuzz::methods().len());
}
