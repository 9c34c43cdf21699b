//! `RuleService`.

use std::sync::Arc;

use rateguard_core::ids::RuleId;
use rateguard_core::money::Currency;
use rateguard_core::rule::Rule;
use rateguard_engine::engine::Engine;
use rateguard_engine::error::EngineError;
use rateguard_engine::ports::{Resource, ResourceKind, Stored};
use rateguard_proto::v1;
use rateguard_proto::v1::rule_service_server::RuleService;
use tonic::{Request, Response, Status};

use super::answer;
use super::managed::{Desk, Managed, at_desk, random_id};
use super::mask::Maskable;
use crate::convert::lists::rule_filter;
use crate::convert::rules::{rule, rule_message};
use crate::listing::page_fields;

impl Managed for Rule {
    type Message = v1::Rule;
    const KIND: ResourceKind = ResourceKind::Rule;
    const FIELD: &'static str = "rule";
    const MASKABLE: Maskable = Maskable {
        message: "rateguard.v1.Rule",
        fixed: &["id", "etag", "create_time", "update_time", "last_reset_time"],
    };

    fn id_and_etag(message: &v1::Rule) -> (&str, &str) {
        (&message.id, &message.etag)
    }

    fn read(_: &Desk<'_>, message: v1::Rule, present: Option<&Self>) -> Result<Self, EngineError> {
        let id = match present {
            Some(present) => present.id.clone(),
            None => RuleId::from_random(random_id()?),
        };
        let last_reset_at = present.and_then(|present| present.last_reset_at);
        Ok(Self { last_reset_at, ..rule(message, id)? })
    }

    fn message(stored: &Stored<Self>, _: Currency) -> v1::Rule {
        rule_message(stored)
    }

    fn into_resource(self) -> Resource {
        Resource::Rule(self)
    }

    fn from_resource(resource: Resource) -> Option<Self> {
        if let Resource::Rule(rule) = resource { Some(rule) } else { None }
    }
}

/// The service over the engine.
pub struct Rules(pub Arc<Engine>);

#[tonic::async_trait]
impl RuleService for Rules {
    async fn create_rule(
        &self,
        request: Request<v1::CreateRuleRequest>,
    ) -> Result<Response<v1::CreateRuleResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let stored = desk.create(message.rule, &message.request_id).await?;
            Ok(v1::CreateRuleResponse { rule: Some(rule_message(&stored)) })
        })
        .await
    }

    async fn get_rule(
        &self,
        request: Request<v1::GetRuleRequest>,
    ) -> Result<Response<v1::GetRuleResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let stored = desk.get("id", &message.id).await?;
            Ok(v1::GetRuleResponse { rule: Some(rule_message(&stored)) })
        })
        .await
    }

    async fn list_rules(
        &self,
        request: Request<v1::ListRulesRequest>,
    ) -> Result<Response<v1::ListRulesResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let page = desk
                .list(
                    &rule_filter(&message)?,
                    page_fields(message.page_size, &message.page_token, &message.order_by),
                )
                .await?;
            let rules = page.items.iter().map(rule_message).collect();
            Ok(v1::ListRulesResponse { rules, next_page_token: page.next_page_token })
        })
        .await
    }

    async fn update_rule(
        &self,
        request: Request<v1::UpdateRuleRequest>,
    ) -> Result<Response<v1::UpdateRuleResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            let updated = desk.update(message.rule, message.update_mask).await?;
            let rule = Some(rule_message(&updated.stored));
            Ok(v1::UpdateRuleResponse { rule, counters_reset: updated.counters_reset })
        })
        .await
    }

    async fn delete_rule(
        &self,
        request: Request<v1::DeleteRuleRequest>,
    ) -> Result<Response<v1::DeleteRuleResponse>, Status> {
        let (desk, message) = at_desk(&self.0, request)?;
        answer(async {
            desk.delete::<Rule>(&message.id, &message.etag).await?;
            Ok(v1::DeleteRuleResponse {})
        })
        .await
    }
}
