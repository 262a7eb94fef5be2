//! The parameters of the operations on users, as the API's description has them. Where each is read stands the same constant:
//! `paging`, `conditions`, `idempotency`.

use serde_json::json;
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};

use super::{conditions, idempotency, paging};

/// Of a list. There is no such value, nor of the others.
pub(super) enum OfList {}
/// Of a creation.
pub(super) enum OfCreate {}
/// Of reading one user.
pub(super) enum OfRead {}
/// Of a change of one user.
pub(super) enum OfChange {}

impl IntoParams for OfList {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let limit = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(paging::LIMIT_MAX))
            .default(Some(json!(paging::LIMIT_DEFAULT)));
        let after = text().pattern(Some(paging::AFTER_PATTERN));
        vec![
            optional("limit", ParameterIn::Query, "Users on the page, at most.", limit),
            optional(
                "after",
                ParameterIn::Query,
                "The `next` of the page before; text, so that nobody calculates.",
                after,
            ),
        ]
    }
}

impl IntoParams for OfCreate {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let about = "A name for this creation, new for each user. For at least 24 hours the same key with the same fields gives \
                     the first answer again and stores nothing. Quoted or bare.";
        let key = text().pattern(Some(idempotency::PATTERN));
        vec![optional(idempotency::NAME, ParameterIn::Header, about, key)]
    }
}

impl IntoParams for OfRead {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let about = "Answers 304 if one of these entity tags is the user's; one that cannot be read is ignored.";
        vec![id(), if_match(), optional("If-None-Match", ParameterIn::Header, about, text())]
    }
}

impl IntoParams for OfChange {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let about = "Changes nothing if one of these entity tags is the user's; `*` is every user who exists.";
        let tags = text().pattern(Some(conditions::PATTERN));
        vec![id(), if_match(), optional("If-None-Match", ParameterIn::Header, about, tags)]
    }
}

fn id() -> Parameter {
    let id = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(1));
    let id = ParameterBuilder::new().name("id").parameter_in(ParameterIn::Path).schema(Some(id));
    id.required(Required::True).description(Some("The user.")).build()
}

fn if_match() -> Parameter {
    let about = "Goes on only if one of these entity tags is the user's, by strong comparison.";
    optional("If-Match", ParameterIn::Header, about, text().pattern(Some(conditions::PATTERN)))
}

fn optional(name: &str, place: ParameterIn, about: &str, schema: ObjectBuilder) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(Required::False);
    parameter.description(Some(about)).schema(Some(schema)).build()
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}
