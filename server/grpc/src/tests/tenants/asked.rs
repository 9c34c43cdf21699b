//! For each method a request about a tenant's things, and who of the tenant may make it.
//!
//! A method that is not here fails the tests by its name: whoever adds one says here how it is called.

use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor, Value};
use rateguard_proto::access::{self, Access, Named};
use rateguard_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use rateguard_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use rateguard_proto::envoy::service::ratelimit::v3::RateLimitRequest;
use rateguard_proto::internal_v1 as internal;
use rateguard_proto::v1;
use rateguard_proto::v1::{KeyScope, Role};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;

use super::fields::filled;
use super::{Headers, Tenant, bearer, call, day, gateway_for};
use crate::tests::managed::mask;
use crate::tests::persons::{secret, tokens};
use crate::tests::world::{GATEWAY_TOKEN, World};

/// A request of reflection for the names of all services.
const LIST_SERVICES: [u8; 2] = [0x3a, 0x00];
/// What may be asked without naming anything, by the beginning of its name.
const ASKS_FOR_ALL: [&str; 4] = ["List", "Query", "GetSummary", "GetQuota"];
/// What makes something once for each request's name, by the beginning of its name.
const MAKES: [&str; 4] = ["Create", "Invite", "Rotate", "TopUp"];
/// A refresh token of nobody's.
const MADE_UP_REFRESH: &str = "rgr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// The secret of a log-in at the provider that nobody has begun.
const MADE_UP_LOGIN: &str = "rgo_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What is asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The message that others send: it names the tenant's things and holds none of its secrets, unless
    /// they are worth nothing without a credential of the tenant's.
    pub foreign: Vec<u8>,
    /// The message of the tenant itself: the same, but where the message itself is the credential.
    pub own: Vec<u8>,
    /// A credential of the tenant's that suffices.
    pub by: Headers,
}

/// A request before its fields are filled.
struct Draft {
    foreign: Vec<u8>,
    own: Option<Vec<u8>>,
    by: Option<Headers>,
}

impl Draft {
    fn of(message: &impl Message) -> Self {
        Self { foreign: message.encode_to_vec(), own: None, by: None }
    }

    fn but_own(self, message: &impl Message) -> Self {
        Self { own: Some(message.encode_to_vec()), ..self }
    }

    fn by(self, headers: Headers) -> Self {
        Self { by: Some(headers), ..self }
    }
}

/// The path of a method, as HTTP/2 has it.
pub fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// The requests of a method about a tenant's things. What they name is there, and what they delete is
/// made for them.
pub async fn asked(world: &World, tenant: &Tenant, method: &MethodDescriptor) -> Vec<Asked> {
    let path = path(method);
    let draft = draft(world, tenant, method).await;
    let draft = draft.unwrap_or_else(|| panic!("no request of {path} is known: make one here"));
    let by = draft.by.unwrap_or_else(|| sufficient(tenant, &path));
    let fill = |message: &[u8]| filled(method.input(), message, &tenant.things);
    let own = draft.own.as_ref().unwrap_or(&draft.foreign);
    let mut asked = vec![Asked {
        own: fill(&named_anew(tenant, method, own)),
        foreign: fill(&draft.foreign),
        by: by.clone(),
    }];
    if ASKS_FOR_ALL.iter().any(|begin| method.name().starts_with(begin)) && asked[0].foreign != draft.foreign
    {
        let bare = draft.foreign.clone();
        asked.push(Asked { own: bare.clone(), foreign: bare, by: by.clone() });
    }
    if method.input().get_field_by_name("page_token").is_some() {
        let page = second_page(world, method, &draft.foreign, &by).await;
        asked.push(Asked { own: page.clone(), foreign: page, by });
    }
    asked
}

/// The tenant makes something new with each request, and so names each anew; others come with the name that
/// it has used.
fn named_anew(tenant: &Tenant, method: &MethodDescriptor, message: &[u8]) -> Vec<u8> {
    let field = method.input().get_field_by_name("request_id");
    let Some(field) = field.filter(|_| MAKES.iter().any(|begin| method.name().starts_with(begin))) else {
        return message.to_vec();
    };
    let mut message = DynamicMessage::decode(method.input(), message).unwrap();
    message.set_field(&field, Value::String(tenant.mark()));
    message.encode_to_vec()
}

/// The credential of a tenant's that opens a method.
fn sufficient(tenant: &Tenant, path: &str) -> Headers {
    let app = &tenant.keys[&KeyScope::Gateway];
    match access::of(path) {
        None | Some(Access::Everybody) => Headers::new(),
        Some(Access::AnyPerson | Access::Named(Named { least_role: Some(_), .. })) => bearer(&tenant.token()),
        Some(Access::Named(Named { key_scopes: [_, ..], .. })) => bearer(&tenant.key),
        Some(Access::Named(named)) if named.gateway_use == Some(v1::GatewayUse::Itself) => {
            bearer(GATEWAY_TOKEN)
        }
        Some(Access::Named(_)) => gateway_for(app),
    }
}

/// Asks for the second page of a list, with the token that the tenant got with the first.
async fn second_page(world: &World, method: &MethodDescriptor, request: &[u8], by: &Headers) -> Vec<u8> {
    let mut message = DynamicMessage::decode(method.input(), request).unwrap();
    message.set_field_by_name("page_size", Value::I32(1));
    let path = path(method);
    let answer = call(world, &path, by, &message.encode_to_vec()).await;
    assert_eq!(answer.status.code(), Code::Ok, "{path}: {:?}", answer.status);
    let page = DynamicMessage::decode(method.output(), &answer.messages[0][..]).unwrap();
    let token = page.get_field_by_name("next_page_token").unwrap().into_owned();
    assert_ne!(token.as_str(), Some(""), "{path}: the tenant has too little for two pages");
    message.set_field_by_name("page_token", token);
    message.encode_to_vec()
}

async fn draft(world: &World, tenant: &Tenant, method: &MethodDescriptor) -> Option<Draft> {
    let desk = Desk { world, tenant };
    let name = method.name();
    match method.parent_service().full_name().trim_start_matches("rateguard.v1.") {
        "AuthService" => desk.of_auth(name).await,
        "WorkspaceService" => desk.of_workspaces(name),
        "MemberService" => desk.of_members(name).await,
        "ApiService" => desk.of_apis(name).await,
        "KeyService" => desk.of_keys(name).await,
        "RuleService" => desk.of_rules(name).await,
        "BudgetService" => desk.of_budgets(name).await,
        "PriceService" => desk.of_prices(name).await,
        "QuotaService" => desk.of_quota(name).await,
        "UsageService" => desk.of_usage(name).await,
        "AnalyticsService" => of_analytics(name),
        "AuditService" => of_audit(name),
        "ConfigurationService" => desk.of_configurations(name),
        "rateguard.internal.v1.GatewayService" => desk.of_gateway(name).await,
        "envoy.service.ratelimit.v3.RateLimitService" => Some(Draft::of(&described())),
        "grpc.health.v1.Health" => Some(Draft::of(&HealthCheckRequest::default())),
        "grpc.reflection.v1.ServerReflection" => {
            Some(Draft { foreign: LIST_SERVICES.to_vec(), own: None, by: None })
        }
        _ => None,
    }
}

/// A call that Envoy describes by one entry.
fn described() -> RateLimitRequest {
    let entry = Entry { key: "user".to_owned(), value: "somebody".to_owned() };
    let descriptor = RateLimitDescriptor { entries: vec![entry], ..RateLimitDescriptor::default() };
    RateLimitRequest { domain: String::new(), descriptors: vec![descriptor], hits_addend: 1 }
}

fn of_audit(method: &str) -> Option<Draft> {
    (method == "ListAuditEntries").then(|| Draft::of(&v1::ListAuditEntriesRequest::default()))
}

fn of_analytics(method: &str) -> Option<Draft> {
    Some(match method {
        "GetSummary" => Draft::of(&v1::GetSummaryRequest { range: day(), filter: None }),
        "QueryTimeSeries" => Draft::of(&v1::QueryTimeSeriesRequest {
            range: day(),
            metrics: vec![v1::Metric::Cost.into()],
            granularity: v1::Granularity::Hour.into(),
            group_by: v1::GroupBy::Subject.into(),
            ..v1::QueryTimeSeriesRequest::default()
        }),
        _ => return None,
    })
}

/// Where requests about a tenant's things are written.
struct Desk<'t> {
    world: &'t World,
    tenant: &'t Tenant,
}

impl Desk<'_> {
    async fn of_auth(&self, method: &str) -> Option<Draft> {
        let (world, tenant) = (self.world, self.tenant);
        Some(match method {
            "Register" => self.registration().await,
            "Login" => self.login(),
            "GetAuthMethods" => Draft::of(&v1::GetAuthMethodsRequest {}),
            "BeginOidcLogin" => Draft::of(&v1::BeginOidcLoginRequest {}),
            "CompleteOidcLogin" => self.log_in_through_the_provider().await,
            "LinkOidc" => self.link().await,
            "RefreshToken" => {
                let own = tenant.logs_in(world, tenant.owner()).await.refresh;
                let with = |token: &str| v1::RefreshTokenRequest { refresh_token: secret(token) };
                Draft::of(&with(MADE_UP_REFRESH)).but_own(&with(&own))
            }
            "Logout" => {
                let leaver = tenant.logs_in(world, tenant.owner()).await;
                Draft::of(&v1::LogoutRequest {}).by(bearer(&leaver.access))
            }
            "GetMe" => Draft::of(&v1::GetMeRequest {}),
            "ChangePassword" => {
                let person = tenant.joins(world, Role::Viewer).await;
                let request = v1::ChangePasswordRequest {
                    current_password: secret(&person.password),
                    new_password: secret("another password"),
                };
                Draft::of(&request).by(bearer(&person.access))
            }
            "SwitchWorkspace" => {
                Draft::of(&v1::SwitchWorkspaceRequest { workspace_id: tenant.workspace.clone() })
            }
            "ListSessions" => Draft::of(&v1::ListSessionsRequest::default()),
            "RevokeSession" => {
                let id = tenant.logs_in(world, tenant.owner()).await.session;
                Draft::of(&v1::RevokeSessionRequest { id })
            }
            _ => return None,
        })
    }

    /// An invitation is worth something to its address alone.
    async fn registration(&self) -> Draft {
        let email = self.tenant.email();
        let token = self.tenant.mailed_token(self.world, &email, Role::Viewer).await;
        let with = |email: &str, password: &str| v1::RegisterRequest {
            email: email.to_owned(),
            password: secret(password),
            display_name: "Somebody".to_owned(),
            invitation_token: secret(&token),
            ..v1::RegisterRequest::default()
        };
        let foreign = with(&self.tenant.thing("email"), "a strangers password");
        Draft::of(&foreign).but_own(&with(&email, "a guests password"))
    }

    fn login(&self) -> Draft {
        let owner = self.tenant.owner();
        let with = |password: &str| v1::LoginRequest {
            email: owner.email.clone(),
            password: secret(password),
            workspace_id: String::new(),
        };
        Draft::of(&with("a strangers password")).but_own(&with(&owner.password))
    }

    /// Somebody new comes by invitation. What the provider sends back is worth something to the browser
    /// that began the log-in alone.
    async fn log_in_through_the_provider(&self) -> Draft {
        let email = self.tenant.email();
        let token = self.tenant.mailed_token(self.world, &email, Role::Viewer).await;
        let returned = self.tenant.visits_provider(self.world, &email).await;
        let with = |login_id: &str| v1::CompleteOidcLoginRequest {
            login_id: secret(login_id),
            code: secret(&returned.code),
            state: secret(&returned.state),
            invitation_token: secret(&token),
            ..v1::CompleteOidcLoginRequest::default()
        };
        Draft::of(&with(MADE_UP_LOGIN)).but_own(&with(&returned.login_id))
    }

    /// A member links their identity, with a password that is nobody else's.
    async fn link(&self) -> Draft {
        let person = self.tenant.joins(self.world, Role::Viewer).await;
        let returned = self.tenant.visits_provider(self.world, &person.email).await;
        let request = v1::LinkOidcRequest {
            login_id: secret(&returned.login_id),
            code: secret(&returned.code),
            state: secret(&returned.state),
            current_password: secret(&person.password),
        };
        Draft::of(&request).by(bearer(&person.access))
    }

    fn of_workspaces(&self, method: &str) -> Option<Draft> {
        let named = |display_name: String| v1::Workspace { display_name, ..v1::Workspace::default() };
        Some(match method {
            "CreateWorkspace" => Draft::of(&v1::CreateWorkspaceRequest {
                workspace: Some(named(self.tenant.thing("name"))),
                ..v1::CreateWorkspaceRequest::default()
            }),
            "GetWorkspace" => Draft::of(&v1::GetWorkspaceRequest::default()),
            "ListWorkspaces" => Draft::of(&v1::ListWorkspacesRequest::default()),
            "UpdateWorkspace" => Draft::of(&v1::UpdateWorkspaceRequest {
                workspace: Some(named("renamed".to_owned())),
                update_mask: mask(&["display_name"]),
            }),
            _ => return None,
        })
    }

    async fn of_members(&self, method: &str) -> Option<Draft> {
        let (world, tenant) = (self.world, self.tenant);
        Some(match method {
            "InviteMember" => {
                let request = v1::InviteMemberRequest {
                    email: tenant.email(),
                    role: Role::Viewer.into(),
                    ..Default::default()
                };
                Draft::of(&request)
            }
            "ListInvitations" => Draft::of(&v1::ListInvitationsRequest::default()),
            "RevokeInvitation" => {
                let id = tenant.invites(world, &tenant.email(), Role::Viewer).await.id;
                Draft::of(&v1::RevokeInvitationRequest { id })
            }
            "AcceptInvitation" => {
                let (guest, _) = tenant.registers(world, None).await;
                let token = tenant.mailed_token(world, &guest.email, Role::Viewer).await;
                let request = v1::AcceptInvitationRequest { token: secret(&token) };
                Draft::of(&request).by(bearer(&guest.access))
            }
            "ListMembers" => Draft::of(&v1::ListMembersRequest::default()),
            "UpdateMember" => {
                let user_id = tenant.joins(world, Role::Viewer).await.id;
                let role = Role::Member.into();
                Draft::of(&v1::UpdateMemberRequest { user_id, role, etag: String::new() })
            }
            "RemoveMember" => {
                let user_id = tenant.joins(world, Role::Viewer).await.id;
                Draft::of(&v1::RemoveMemberRequest { user_id })
            }
            "TransferOwnership" => self.transfer().await,
            _ => return None,
        })
    }

    /// The ownership of another workspace of the owner's, which a member is to have.
    async fn transfer(&self) -> Draft {
        let (world, tenant) = (self.world, self.tenant);
        let owner = tenant.logs_in(world, tenant.owner()).await;
        let member = tenant.logs_in(world, &tenant.people[&Role::Member]).await;
        let draft = v1::Workspace { display_name: tenant.name(), ..v1::Workspace::default() };
        let create = v1::CreateWorkspaceRequest { workspace: Some(draft), ..Default::default() };
        let made: v1::CreateWorkspaceResponse =
            tenant.told(world, "WorkspaceService/CreateWorkspace", &owner.access, &create).await;
        let workspace_id = made.workspace.unwrap().id;
        tenant.owns(&workspace_id);
        let switch = v1::SwitchWorkspaceRequest { workspace_id };
        let there: v1::SwitchWorkspaceResponse =
            tenant.told(world, "AuthService/SwitchWorkspace", &owner.access, &switch).await;
        let (there, ..) = tokens(there.grant);
        let invite =
            v1::InviteMemberRequest { email: String::new(), role: Role::Member.into(), ..Default::default() };
        let invited: v1::InviteMemberResponse =
            tenant.told(world, "MemberService/InviteMember", &there, &invite).await;
        let accept = v1::AcceptInvitationRequest { token: invited.token };
        let _: v1::AcceptInvitationResponse =
            tenant.told(world, "MemberService/AcceptInvitation", &member.access, &accept).await;
        Draft::of(&v1::TransferOwnershipRequest { user_id: member.id }).by(bearer(&there))
    }

    async fn of_apis(&self, method: &str) -> Option<Draft> {
        let (world, tenant) = (self.world, self.tenant);
        let with_slug = |slug: String| {
            let base_url = "https://api.example.com/v1".to_owned();
            v1::CreateApiRequest {
                api: Some(v1::Api { slug, base_url, ..v1::Api::default() }),
                ..v1::CreateApiRequest::default()
            }
        };
        Some(match method {
            // A slug that one workspace has is free in every other.
            "CreateApi" => Draft::of(&with_slug(tenant.thing("slug"))).but_own(&with_slug(tenant.mark())),
            "GetApi" => Draft::of(&v1::GetApiRequest::default()),
            "ListApis" => Draft::of(&v1::ListApisRequest::default()),
            "UpdateApi" => Draft::of(&v1::UpdateApiRequest {
                api: Some(v1::Api { timeout_ms: 5_000, ..v1::Api::default() }),
                update_mask: mask(&["timeout_ms"]),
            }),
            "DeleteApi" => {
                let id = tenant.makes_api(world).await.id;
                Draft::of(&v1::DeleteApiRequest { id, etag: String::new() })
            }
            _ => return None,
        })
    }

    async fn of_keys(&self, method: &str) -> Option<Draft> {
        let read = vec![KeyScope::Read.into()];
        Some(match method {
            "CreateKey" => Draft::of(&v1::CreateKeyRequest {
                key: Some(v1::Key { scopes: read, ..v1::Key::default() }),
                ..v1::CreateKeyRequest::default()
            }),
            "GetKey" => Draft::of(&v1::GetKeyRequest::default()),
            "ListKeys" => Draft::of(&v1::ListKeysRequest::default()),
            "UpdateKey" => {
                let (id, _) = self.tenant.makes_key(self.world, &[KeyScope::Quota]).await;
                Draft::of(&v1::UpdateKeyRequest {
                    key: Some(v1::Key { id, scopes: read, ..v1::Key::default() }),
                    update_mask: mask(&["scopes"]),
                })
            }
            "RotateKey" => {
                let (id, _) = self.tenant.makes_key(self.world, &[KeyScope::Quota]).await;
                Draft::of(&v1::RotateKeyRequest { id, ..v1::RotateKeyRequest::default() })
            }
            "DeleteKey" => {
                let (id, _) = self.tenant.makes_key(self.world, &[KeyScope::Quota]).await;
                Draft::of(&v1::DeleteKeyRequest { id, etag: String::new() })
            }
            _ => return None,
        })
    }

    async fn of_rules(&self, method: &str) -> Option<Draft> {
        let algorithm = crate::tests::managed::fixed_window(7);
        Some(match method {
            "CreateRule" => {
                Draft::of(&v1::CreateRuleRequest { rule: Some(self.tenant.rule()), ..Default::default() })
            }
            "GetRule" => Draft::of(&v1::GetRuleRequest::default()),
            "ListRules" => Draft::of(&v1::ListRulesRequest::default()),
            "UpdateRule" => {
                let id = self.tenant.makes_rule(self.world).await;
                Draft::of(&v1::UpdateRuleRequest {
                    rule: Some(v1::Rule { id, algorithm, ..v1::Rule::default() }),
                    update_mask: mask(&["fixed_window"]),
                })
            }
            "DeleteRule" => {
                let id = self.tenant.makes_rule(self.world).await;
                Draft::of(&v1::DeleteRuleRequest { id, etag: String::new() })
            }
            _ => return None,
        })
    }

    async fn of_budgets(&self, method: &str) -> Option<Draft> {
        Some(match method {
            "CreateBudget" => Draft::of(&v1::CreateBudgetRequest {
                budget: Some(self.tenant.budget()),
                ..Default::default()
            }),
            "GetBudget" => Draft::of(&v1::GetBudgetRequest::default()),
            "ListBudgets" => Draft::of(&v1::ListBudgetsRequest::default()),
            "UpdateBudget" => {
                let id = self.tenant.makes_budget(self.world).await;
                let enforcement = v1::BudgetEnforcement::Shadow.into();
                Draft::of(&v1::UpdateBudgetRequest {
                    budget: Some(v1::Budget { id, enforcement, ..v1::Budget::default() }),
                    update_mask: mask(&["enforcement"]),
                })
            }
            "TopUpBudget" => {
                let amount = crate::tests::managed::usd(5_000_000_000);
                Draft::of(&v1::TopUpBudgetRequest { amount, ..v1::TopUpBudgetRequest::default() })
            }
            "ListBudgetTopUps" => Draft::of(&v1::ListBudgetTopUpsRequest {
                budget_id: self.tenant.thing("budget"),
                ..v1::ListBudgetTopUpsRequest::default()
            }),
            "DeleteBudget" => {
                let id = self.tenant.makes_budget(self.world).await;
                Draft::of(&v1::DeleteBudgetRequest { id, etag: String::new() })
            }
            _ => return None,
        })
    }

    async fn of_prices(&self, method: &str) -> Option<Draft> {
        let (world, tenant) = (self.world, self.tenant);
        let create = |model: &str| v1::CreatePriceOverrideRequest {
            price: Some(tenant.price(model)),
            ..Default::default()
        };
        Some(match method {
            "ListPrices" => Draft::of(&v1::ListPricesRequest::default()),
            "GetPrice" => Draft::of(&v1::GetPriceRequest::default()),
            // A model that one workspace has a price for is free in every other.
            "CreatePriceOverride" => {
                Draft::of(&create(&tenant.thing("model"))).but_own(&create(&tenant.mark()))
            }
            "UpdatePriceOverride" => {
                let id = tenant.makes_price(world, &tenant.mark()).await;
                let price = v1::Price { id, request_rate: Some("0.5".to_owned()), ..v1::Price::default() };
                let update_mask = mask(&["request_rate"]);
                Draft::of(&v1::UpdatePriceOverrideRequest { price: Some(price), update_mask })
            }
            "DeletePriceOverride" => {
                let id = tenant.makes_price(world, &tenant.mark()).await;
                Draft::of(&v1::DeletePriceOverrideRequest { id, etag: String::new() })
            }
            _ => return None,
        })
    }

    fn of_configurations(&self, method: &str) -> Option<Draft> {
        let with = |slug: &str| v1::ApplyWorkspaceRequest {
            configuration: Some(self.configuration(slug)),
            ..v1::ApplyWorkspaceRequest::default()
        };
        Some(match method {
            "ExportWorkspace" => Draft::of(&v1::ExportWorkspaceRequest {}),
            "ApplyWorkspace" => {
                Draft::of(&with(&self.tenant.thing("slug"))).but_own(&with(&self.tenant.mark()))
            }
            _ => return None,
        })
    }

    /// An API, and a key and a rule for it, which name each other by their names.
    fn configuration(&self, slug: &str) -> v1::WorkspaceConfiguration {
        let (key_name, api_ids) = (self.tenant.name(), vec![slug.to_owned()]);
        let matched = v1::CallMatch {
            api_ids: api_ids.clone(),
            key_ids: vec![key_name.clone()],
            ..v1::CallMatch::default()
        };
        let (base_url, scopes) = ("https://api.example.com/v1".to_owned(), vec![KeyScope::Read.into()]);
        v1::WorkspaceConfiguration {
            apis: vec![v1::Api { slug: slug.to_owned(), base_url, ..v1::Api::default() }],
            keys: vec![v1::Key { display_name: key_name, scopes, api_ids, ..v1::Key::default() }],
            rules: vec![v1::Rule { r#match: Some(matched), ..self.tenant.rule() }],
            ..v1::WorkspaceConfiguration::default()
        }
    }

    async fn of_quota(&self, method: &str) -> Option<Draft> {
        let (world, tenant) = (self.world, self.tenant);
        Some(match method {
            // The tenant has had its answer already.
            "CheckQuota" | "BatchCheckQuota" => {
                let request = v1::CheckQuotaRequest { explain: true, ..tenant.check(&tenant.mark()) };
                tenant.checks(world, &request).await;
                let batch = v1::BatchCheckQuotaRequest { requests: vec![request.clone()] };
                if method == "CheckQuota" { Draft::of(&request) } else { Draft::of(&batch) }
            }
            "GetQuota" => Draft::of(&v1::GetQuotaRequest::default()),
            "StreamCheckQuota" => {
                let check = v1::CheckQuotaRequest { explain: true, ..tenant.check(&tenant.mark()) };
                tenant.checks(world, &check).await;
                Draft::of(&v1::StreamCheckQuotaRequest { check: Some(check) })
            }
            "ReleaseReservation" => {
                let reservation_id = tenant.reserves(world).await;
                Draft::of(&v1::ReleaseReservationRequest { reservation_id }).by(bearer(&tenant.key))
            }
            "RenewReservation" => {
                let reservation_id = tenant.reserves(world).await;
                let renew = v1::RenewReservationRequest { reservation_id, ttl_ms: None };
                Draft::of(&renew).by(bearer(&tenant.key))
            }
            "LeaseQuota" => Draft::of(&tenant.lease()).by(bearer(&tenant.key)),
            "ReturnLease" => {
                let lease_id = tenant.leases(world).await;
                Draft::of(&v1::ReturnLeaseRequest { lease_id, unspent: Vec::new() }).by(bearer(&tenant.key))
            }
            "ResetQuota" => {
                let counters = v1::reset_quota_request::Counters::All(v1::AllCounters {});
                Draft::of(&v1::ResetQuotaRequest { rule_id: tenant.thing("rule"), counters: Some(counters) })
            }
            _ => return None,
        })
    }

    async fn of_usage(&self, method: &str) -> Option<Draft> {
        let tenant = self.tenant;
        Some(match method {
            // The first was reported before, the second settles what the tenant holds.
            "ReportUsage" => {
                let settling = v1::UsageRecord {
                    reservation_id: tenant.reserves(self.world).await,
                    price: self.price_reference(),
                    ..tenant.record(&tenant.mark())
                };
                let records = vec![tenant.record(&tenant.thing("event")), settling];
                Draft::of(&v1::ReportUsageRequest { records })
            }
            "ListUsageEvents" => Draft::of(&v1::ListUsageEventsRequest::default()),
            _ => return None,
        })
    }

    fn price_reference(&self) -> Option<v1::PriceReference> {
        Some(v1::PriceReference { price_id: self.tenant.thing("price"), price_version: 1 })
    }

    async fn of_gateway(&self, method: &str) -> Option<Draft> {
        Some(match method {
            "ResolveRoute" => Draft::of(&internal::ResolveRouteRequest::default()),
            "WatchRoutes" => Draft::of(&internal::WatchRoutesRequest {}),
            "PriceUsage" => {
                let record = v1::UsageRecord {
                    reservation_id: self.tenant.reserves_by_gateway(self.world).await,
                    price: self.price_reference(),
                    ..self.tenant.record(&self.tenant.mark())
                };
                Draft::of(&internal::PriceUsageRequest { record: Some(record) })
            }
            _ => return None,
        })
    }
}
