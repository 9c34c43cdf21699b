//! The server killed while many report, reserve, release and leave: what was accepted counts
//! exactly once, everywhere, and what was held stays held.

mod books;
mod ledger;
mod limits;
mod random;
mod reporter;

use rateguard_proto::v1;
use tokio::task::JoinSet;

use self::books::Books;
use self::ledger::{Ledger, Worth};
use self::random::{Random, Told, first_seed};
use self::reporter::{Pulse, RESERVED, Reporter, UNRESERVED};
use crate::clients::{Clients, eventually};
use crate::database::Database;
use crate::process::{Installation, Server};

const REPORTERS: u64 = 200;
/// Connections that the reporters share.
const CONNECTIONS: usize = 8;
/// The kill comes so many accepted records after the first reservation has expired, at most.
const ACCEPTED_BEFORE_KILL: i64 = 2_000;
/// Of a hundred reporters, so many leave in mid-call by themselves, when so many records were
/// accepted.
const LEAVING_PERCENT: i64 = 35;
const ACCEPTED_BEFORE_LEAVING: i64 = 4_000;
/// The budget of records without reservations: no round comes near it.
const UNRESERVED_NANOS: i64 = 1_000_000_000_000;
/// The budget of reserved calls: so small that the step of its ceiling is less than what is open.
const RESERVED_NANOS: i64 = 20_000_000_000;
/// Who has reservations that nothing touches until after the kill; its budget has room for so many
/// calls, and so many are open.
const UNTOUCHED: &str = "untouched";
const CALL: Worth = Worth::Nanos(7);
const UNTOUCHED_ROOM_CALLS: i64 = 100;
const UNTOUCHED_CALLS: i64 = 10;
/// One more is settled just before the kill, and costs more than all of them hold.
const COSTLY_CALL: Worth = Worth::Nanos(350);

/// Rounds to run: one in `make test`, more in `make soak`.
fn rounds() -> u64 {
    std::env::var("RATEGUARD_SOAK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_before_a_kill_counts_exactly_once() {
    let first_seed = first_seed();
    for round in 0..rounds() {
        one_round(first_seed.wrapping_add(round), Installation::make().await, Stores::Own).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_before_a_kill_counts_exactly_once_on_postgres() {
    let first_seed = first_seed();
    for round in 0..rounds() {
        let database = Database::shared().await;
        let installation = Installation::make_on(&database.url).await;
        one_round(first_seed.wrapping_add(round), installation, Stores::Shared).await;
        database.is_whole().await;
    }
}

/// Whose the stores under a server are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stores {
    /// Its own: a report on a reservation that the kill made it forget is one on its own reservation.
    Own,
    /// Those of other servers too: the reservation may be another's.
    Shared,
}

async fn one_round(seed: u64, installation: Installation, stores: Stores) {
    let _told = Told::at_start(seed);
    let mut random = Random::of(seed, 0);
    let (scene, server) = Scene::set(installation, stores).await;
    let mut keeper = scene.keeper(&server, seed).await;
    let mut clients = scene.report_until_killed(server, &mut keeper, &mut random, seed).await;
    let reported = joined(&clients);
    clients.push(keeper);

    let server = scene.installation.serve().await;
    let client = server.connect(&scene.key).await;
    let books = scene.books_that_agree(&client, &clients).await;
    scene.the_unreserved_budget_admits_exactly_what_is_left(&client).await;
    scene.the_untouched_money_stays_held(&client).await;
    scene.what_is_open_stays_held(&client, &reported).await;

    clients.iter_mut().for_each(|reporter| reporter.reconnect(&client));
    half_resend(&mut clients, &books, &mut random).await;
    let mut keeper = clients.pop().unwrap();
    // The floor of the keeper's short-lived reservation was recorded before the kill.
    keeper.report_late().await.unwrap();
    scene.a_report_on_a_lost_reservation_draws_its_own_held_money_down(&client, &mut keeper).await;
    clients.push(keeper);
    scene.books_that_agree(&client, &clients).await;
    assert!(server.interrupt().await.success());
}

fn joined(clients: &[Reporter]) -> Ledger {
    let mut all = Ledger::default();
    clients.iter().for_each(|client| all.join(client.ledger.clone()));
    all
}

/// Half of the clients send all that they ever sent again.
async fn half_resend(clients: &mut [Reporter], books: &Books, random: &mut Random) {
    let listed = books.reported_ids();
    for reporter in clients {
        if random.percent(50) {
            reporter.resend_all(&listed).await.unwrap();
        }
    }
}

struct Scene {
    installation: Installation,
    stores: Stores,
    key: String,
    unreserved: v1::Budget,
    reserved: v1::Budget,
    untouched: v1::Budget,
}

impl Scene {
    async fn set(installation: Installation, stores: Stores) -> (Self, Server) {
        let server = installation.serve().await;
        let first = installation.administer(&server).await;
        let scopes = [v1::KeyScope::Quota, v1::KeyScope::Usage, v1::KeyScope::Read, v1::KeyScope::Manage];
        let scene = Self {
            installation,
            stores,
            key: first.make_key(&scopes).await,
            unreserved: first.make_budget(UNRESERVED, UNRESERVED_NANOS).await,
            reserved: first.make_budget(RESERVED, RESERVED_NANOS).await,
            untouched: first.make_budget(UNTOUCHED, UNTOUCHED_ROOM_CALLS * CALL.nanos()).await,
        };
        (scene, server)
    }

    /// A client that reserves and says no more.
    async fn keeper(&self, server: &Server, seed: u64) -> Reporter {
        let client = server.connect(&self.key).await;
        let random = Random::of(seed, REPORTERS + 1);
        let mut keeper = Reporter::new("keeper".to_owned(), client, random, Pulse::default());
        for _ in 0..UNTOUCHED_CALLS {
            keeper.reserve(UNTOUCHED, CALL, None).await.unwrap().expect("the budget has room");
        }
        keeper.reserve_briefly().await.unwrap().expect("the budget has room");
        keeper
    }

    /// Two hundred reporters, some of which leave by themselves, until the server is killed among
    /// them: at any moment after its first reservation has expired.
    async fn report_until_killed(
        &self,
        server: Server,
        keeper: &mut Reporter,
        random: &mut Random,
        seed: u64,
    ) -> Vec<Reporter> {
        let pulse = Pulse::default();
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(server.connect(&self.key).await);
        }
        let mut reporting = JoinSet::new();
        for (number, client) in (0..REPORTERS).zip(connections.iter().cycle()) {
            let choices = Random::of(seed, 1 + number);
            let reporter = Reporter::new(number.to_string(), client.clone(), choices, pulse.clone());
            let leaves = random.percent(LEAVING_PERCENT);
            let leaves_at = leaves.then(|| random.within(0..=ACCEPTED_BEFORE_LEAVING));
            reporting.spawn(reporter.call_until_leaving(leaves_at));
        }
        let [brief] = keeper.expiring() else { panic!("the keeper has one short-lived reservation") };
        eventually("a reservation expires", async || !connections[0].events_of(brief).await.is_empty()).await;
        let more = random.within(0..=ACCEPTED_BEFORE_KILL);
        pulse.rises_by(more).await;
        keeper.reserve_and_settle(UNTOUCHED, CALL, COSTLY_CALL).await.unwrap();
        pulse.announce_kill();
        server.kill().await;
        reporting.join_all().await
    }

    /// Every accepted record is listed once, and the events, the rollups and the budgets tell the
    /// same money.
    async fn books_that_agree(&self, client: &Clients, clients: &[Reporter]) -> Books {
        let books = Books::read(client).await;
        let sent = joined(clients);
        books.list_what_was_accepted_once(&sent);
        books.charge_floors_only_where_no_report_came_late(&sent);
        for (budget, subject) in
            [(&self.unreserved, UNRESERVED), (&self.reserved, RESERVED), (&self.untouched, UNTOUCHED)]
        {
            let spent = client.budget_state(&budget.id).await.spent_nanos;
            assert_eq!(spent, books.spent_by(subject), "budget and events of {subject} differ");
        }
        books
    }

    async fn the_unreserved_budget_admits_exactly_what_is_left(&self, client: &Clients) {
        let state = client.budget_state(&self.unreserved.id).await;
        assert_eq!(state.held_nanos, 0);
        // One call that takes all but five, then five, then none.
        let most = state.amount_nanos - state.spent_nanos - 5 * CALL.nanos();
        assert_eq!(client.reserve(UNRESERVED, most).await.decision(), v1::Decision::Allowed);
        assert_eq!(client.reserve_until_denied(UNRESERVED, CALL.nanos(), 20).await, 5);
        assert_eq!(client.budget_state(&self.unreserved.id).await.remaining_nanos, 0);
    }

    /// The ceiling rule: what was held stays held, as one amount of at most three times as much and
    /// one percent of the budget, whatever a call cost that was settled before the kill.
    async fn the_untouched_money_stays_held(&self, client: &Clients) {
        let state = client.budget_state(&self.untouched.id).await;
        let truly = UNTOUCHED_CALLS * CALL.nanos();
        assert_eq!(state.spent_nanos, COSTLY_CALL.nanos());
        let expected = truly..=ceiling_max(truly + CALL.nanos(), state.amount_nanos);
        assert!(expected.contains(&state.held_nanos), "{} of {expected:?}", state.held_nanos);
    }

    /// The same, where others came and went: nothing that is surely open may be given to others.
    async fn what_is_open_stays_held(&self, client: &Clients, reported: &Ledger) {
        let state = client.budget_state(&self.reserved.id).await;
        let most = ceiling_max(reported.asked_nanos, state.amount_nanos);
        let expected = reported.surely_held_nanos()..=most;
        assert!(expected.contains(&state.held_nanos), "{} of {expected:?}", state.held_nanos);
    }

    /// Where the reservation may be another server's, what the kill left held stays for its hour.
    async fn a_report_on_a_lost_reservation_draws_its_own_held_money_down(
        &self,
        client: &Clients,
        keeper: &mut Reporter,
    ) {
        let before = client.budget_state(&self.untouched.id).await;
        keeper.report_one_open(UNTOUCHED, CALL).await.unwrap();
        let after = client.budget_state(&self.untouched.id).await;
        let drawn_nanos = if self.stores == Stores::Own { CALL.nanos() } else { 0 };
        let expected = (before.spent_nanos + CALL.nanos(), before.held_nanos - drawn_nanos);
        assert_eq!((after.spent_nanos, after.held_nanos), expected);
    }
}

/// The most that may stay held after a kill, when no more than this was held before.
fn ceiling_max(held_nanos: i64, amount_nanos: i64) -> i64 {
    held_nanos + (2 * held_nanos).max(amount_nanos / 100)
}
