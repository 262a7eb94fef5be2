//! The API's description (OpenAPI 3.1): what is around the operations, and what several of them share.
//!
//! The operations themselves stand at their handlers, as `#[utoipa::path]`, and the router is made of the same list, so
//! that neither can have what the other lacks. Pages are not part of the API and not described.

use std::collections::BTreeMap;

use bytes::Bytes;
use utoipa::IntoResponses;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::info::{InfoBuilder, LicenseBuilder};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ArrayBuilder, ComponentsBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{Content, OpenApi, OpenApiBuilder, Ref, RefOr};

use super::fixed::Fixed;
use crate::problem::{PROBLEM_MEDIA_TYPE, Problem};

/// `/openapi.json`. Its media type is the one that every tool knows.
pub(super) static DOCUMENT: Fixed = Fixed::new("application/json", || {
    Bytes::from(super::openapi().to_json().expect("a description has text keys, so it cannot fail"))
});

/// What the server's limits answer, whatever is asked for.
const TOO_MANY_REQUESTS: &str = "TooManyRequests";
const SERVER_UNAVAILABLE: &str = "ServerUnavailable";
/// The schema of the document in it.
const QUOTA_EXCEEDED: &str = "QuotaExceeded";

const ABOUT: &str = "Users in a database, an echo, and the state of the service.\n\nErrors are problem documents (RFC 9457). \
     What the server refuses before an operation is reached, such as malformed HTTP or one connection too many, and what a \
     deadline ends, is answered with a line of plain text, which has no field `Server`. Who asks too often gets a 429 with a problem \
     document, `Retry-After`, `RateLimit` and `RateLimit-Policy`.";

/// The description before any operation was added.
pub(super) fn frame() -> OpenApi {
    let licence = LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0"));
    let info = InfoBuilder::new()
        .title("Baiwan")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(licence.build()));
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("Demanded for what changes users, where the operator has set `API_TOKEN`."));
    let components = ComponentsBuilder::new()
        .schema_from::<Problem>()
        .schema(QUOTA_EXCEEDED, quota_exceeded())
        .response(TOO_MANY_REQUESTS, too_many_requests())
        .response(SERVER_UNAVAILABLE, server_unavailable())
        .security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    OpenApiBuilder::new().info(info.build()).tags(Some(groups())).components(Some(components.build())).build()
}

/// In the order of the front page.
fn groups() -> [Tag; 3] {
    let group = |name: &str, about: &str| TagBuilder::new().name(name).description(Some(about)).build();
    [
        group("health", "For people, monitors and orchestrators."),
        group("users", "Users with a name, and an e-mail address if they have one."),
        group("echo", "What was sent, sent back."),
    ]
}

/// The description with all operations, and with what the server may answer in the place of each. Every header field that an operation
/// mentions is always there.
pub(super) fn complete(mut api: OpenApi) -> OpenApi {
    let components = api.components.iter_mut().flat_map(|components| components.responses.get_mut(SERVER_UNAVAILABLE));
    let shared = components.filter_map(response_mut);
    for response in api.paths.paths.values_mut().flat_map(operations_mut).flat_map(responses_mut).chain(shared) {
        for header in response.headers.values_mut() {
            if let RefOr::T(header) = header {
                // `required` is a field of OpenAPI's that utoipa has no name for.
                header.extensions = Some(Extensions::from_iter([("required", true)]));
            }
        }
    }
    api.paths.paths.values_mut().flat_map(operations_mut).for_each(add_limits);
    api
}

/// The server's limits may refuse any request: one for the health can only meet those of connections, and of time.
fn add_limits(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    responses.insert("429".to_owned(), Ref::from_response_name(TOO_MANY_REQUESTS).into());
    let unavailable = responses.entry("503".to_owned());
    let unavailable = unavailable.or_insert_with(|| Ref::from_response_name(SERVER_UNAVAILABLE).into());
    if let Some(response) = response_mut(unavailable) {
        response.content.entry("text/plain".to_owned()).or_insert_with(|| text().into());
    }
}

fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.delete].into_iter().flatten()
}

fn responses_mut(operation: &mut Operation) -> impl Iterator<Item = &mut Response> {
    operation.responses.responses.values_mut().filter_map(response_mut)
}

fn response_mut(response: &mut RefOr<Response>) -> Option<&mut Response> {
    match response {
        RefOr::T(response) => Some(response),
        RefOr::Ref(_) => None,
    }
}

/// A path of the API, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The method; `HEAD` works wherever `GET` does.
    pub method: &'static str,
    /// The path, parameters in braces.
    pub path: String,
    /// One line.
    pub summary: String,
    /// What it belongs to, in one word.
    pub group: String,
}

/// Every operation of the API's description, group by group.
pub fn endpoints() -> Vec<Endpoint> {
    let api = super::openapi();
    let mut endpoints: Vec<_> = api.paths.paths.iter().flat_map(|(path, item)| endpoints_of(path, item)).collect();
    let order = groups().map(|group| group.name);
    // A stable sort: within a group, as the description has them.
    endpoints.sort_by_key(|endpoint| order.iter().position(|name| *name == endpoint.group));
    endpoints
}

fn endpoints_of(path: &str, item: &PathItem) -> Vec<Endpoint> {
    let operations = [("GET", &item.get), ("POST", &item.post), ("PUT", &item.put), ("DELETE", &item.delete)];
    let described = operations.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)));
    described
        .map(|(method, operation)| Endpoint {
            method,
            path: path.to_owned(),
            summary: operation.summary.clone().unwrap_or_default(),
            group: operation.tags.iter().flatten().next().cloned().unwrap_or_default(),
        })
        .collect()
}

/// Names what several operations refuse in the same way, for `responses(…)`. There are no such values.
macro_rules! refusals {
    ($($name:ident $status:literal $about:literal $more:ident)+) => {
        $(
            #[doc = $about]
            pub(super) enum $name {}

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    let response = ResponseBuilder::new().description($about);
                    BTreeMap::from([($status.to_owned(), RefOr::T($more(response).build()))])
                }
            }
        )+
    };
}

refusals! {
    WrongParameter "400" "A parameter of the query or a field of the head is wrong; `errors` names it." problem
    WrongRequest "400" "A field of the head, or the body's JSON, is malformed, or the body is incomplete." problem_or_text
    IncompleteBody "400" "The body broke off before its end, or its framing is malformed." problem_or_text
    Unauthorized "401" "The operator demands a token, and this is not it." challenge
    NoSuchUser "404" "There is no such user." problem
    BodyTooSlow "408" "The body came too slowly." plain_text
    NameTaken "409" "Another user has the name." problem
    ConditionFailed "412" "The user is not as `If-Match` or `If-None-Match` demands; `errors` names the field. Nothing was changed." problem
    BodyTooLarge "413" "The body is longer than 1 MiB." problem_or_text
    WrongMediaType "415" "The content type is not JSON in UTF-8, or there is a content coding." problem
    WrongFields "422" "JSON, but not what is described; `errors` names the members. Or a reused idempotency key." problem
    StoreUnavailable "503" "The store, or the server, cannot take the request now." unavailable
}

fn problem(response: ResponseBuilder) -> ResponseBuilder {
    response.content(PROBLEM_MEDIA_TYPE, Content::new(Some(Ref::from_schema_name("Problem"))))
}

/// What the server says before a handler can, or instead of one that waits.
fn plain_text(response: ResponseBuilder) -> ResponseBuilder {
    response.content("text/plain", text())
}

fn text() -> Content {
    Content::new(Some(ObjectBuilder::new().schema_type(Type::String)))
}

fn problem_or_text(response: ResponseBuilder) -> ResponseBuilder {
    plain_text(problem(response))
}

fn challenge(response: ResponseBuilder) -> ResponseBuilder {
    let field = HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some("`Bearer`, and `invalid_token` if there was a token (RFC 6750)."));
    problem(response).header("WWW-Authenticate", field.build())
}

fn unavailable(response: ResponseBuilder) -> ResponseBuilder {
    problem_or_text(response).header("Retry-After", retry_after())
}

fn retry_after() -> Header {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds after which to try again.")).build()
}

/// The answer of the rate limit, or of the limit of a client's connections, which is text and has none of the fields.
fn too_many_requests() -> Response {
    let item = |about: &str, example: &str| {
        let text = ObjectBuilder::new().schema_type(Type::String).examples([example]);
        HeaderBuilder::new().schema(Some(text)).description(Some(about)).build()
    };
    let limit = "`r` is how many requests are left, and `t` the seconds within which there are no more.";
    let policy = "`q` is how many requests are allowed in `w` seconds.";
    let response = ResponseBuilder::new()
        .description("The client has asked too often (a problem document, with the fields), or it has too many connections (text).")
        .content(PROBLEM_MEDIA_TYPE, Content::new(Some(Ref::from_schema_name(QUOTA_EXCEEDED))))
        .header("Retry-After", retry_after())
        .header("RateLimit", item(limit, "\"default\";r=0;t=1"))
        .header("RateLimit-Policy", item(policy, "\"default\";q=100;w=1"));
    plain_text(response).build()
}

/// The problem document of draft-ietf-httpapi-ratelimit-headers.
fn quota_exceeded() -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let names = ArrayBuilder::new().items(text()).min_items(Some(1));
    let members = [("type", text().into()), ("title", text().into()), ("detail", text().into())];
    let members = members.into_iter().chain([
        ("status", Schema::from(ObjectBuilder::new().schema_type(Type::Integer))),
        ("violated-policies", names.into()),
    ]);
    let document =
        members.fold(ObjectBuilder::new(), |document, (name, member)| document.property(name, member).required(name));
    document.description(Some("A problem document (RFC 9457) that names the limits that were reached.")).into()
}

/// The answer to a request that was not let through, or that took too long.
fn server_unavailable() -> Response {
    let about = "The server cannot take the request now: all connections are taken, its memory is short, it is overloaded, or the time \
         for the request is over.";
    plain_text(ResponseBuilder::new().description(about)).header("Retry-After", retry_after()).build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    fn document() -> Value {
        serde_json::from_str(&crate::routes::openapi().to_json().unwrap()).unwrap()
    }

    /// Every operation, after its method and path.
    fn operations(document: &Value) -> Vec<(String, &Value)> {
        let mut operations = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                operations.push((format!("{method} {path}"), operation));
            }
        }
        operations
    }

    /// What `$ref` says, wherever it stands.
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn the_description_is_openapi_3_1_and_whole() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 3, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let ids: BTreeSet<_> = operations(&document)
            .into_iter()
            .map(|(_, operation)| operation["operationId"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), operations(&document).len(), "{ids:?}");
    }

    #[test]
    fn whatever_changes_users_may_demand_the_token() {
        let document = document();
        let mut writes = 0;
        for (name, operation) in operations(&document) {
            let is_write = name.contains(" /api/") && !name.starts_with("get ");
            writes += usize::from(is_write);
            let expected = if is_write { json!([{}, {"bearer": []}]) } else { Value::Null };
            assert_eq!(operation["security"], expected, "{name}");
            assert_eq!(operation["responses"].get("401").is_some(), is_write, "{name}");
        }
        assert_eq!(writes, 3);
    }

    #[test]
    fn header_fields_of_answers_are_always_there() {
        let document = document();
        let created = &document["paths"]["/api/users"]["post"]["responses"]["201"]["headers"];
        for field in ["Location", "ETag"] {
            assert_eq!(created[field]["required"], true, "{created}");
        }
        for (name, operation) in operations(&document) {
            let unavailable = &operation["responses"]["503"];
            if name.contains(" /api/") {
                assert_eq!(unavailable["headers"]["Retry-After"]["required"], true, "{name}");
            }
        }
    }

    #[test]
    fn limits_may_refuse_every_operation() {
        let document = document();
        for (name, operation) in operations(&document) {
            let responses = &operation["responses"];
            assert_eq!(responses["429"], json!({"$ref": "#/components/responses/TooManyRequests"}), "{name}");
            let unavailable = &responses["503"];
            let is_shared = *unavailable == json!({"$ref": "#/components/responses/ServerUnavailable"});
            assert!(is_shared || unavailable["content"]["text/plain"]["schema"]["type"] == "string", "{name}");
        }
        let responses = &document["components"]["responses"];
        let refused = &responses["TooManyRequests"];
        for field in ["Retry-After", "RateLimit", "RateLimit-Policy"] {
            // Too many connections are refused without a look at the request, and without these fields.
            assert!(
                refused["headers"][field].is_object() && refused["headers"][field].get("required").is_none(),
                "{field}"
            );
        }
        assert_eq!(responses["ServerUnavailable"]["headers"]["Retry-After"]["required"], true);
        let schema = &document["components"]["schemas"]["QuotaExceeded"];
        let limits: baiwan_limits::Quota = "10/min".parse().unwrap();
        let document = baiwan_limits::Limiter::new("default", limits).fields().problem();
        let document: serde_json::Map<String, Value> = serde_json::from_slice(&document).unwrap();
        let described: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(document.keys().collect::<BTreeSet<_>>(), described);
        assert_eq!(schema["required"].as_array().unwrap().len(), described.len());
    }

    #[test]
    fn endpoints_are_the_operations_group_by_group() {
        let document = document();
        let described: BTreeSet<_> = operations(&document).into_iter().map(|(name, _)| name).collect();
        let endpoints = endpoints();
        let listed: BTreeSet<_> =
            endpoints.iter().map(|endpoint| format!("{} {}", endpoint.method.to_lowercase(), endpoint.path)).collect();
        assert_eq!(listed, described);
        let mut groups: Vec<_> = endpoints.iter().map(|endpoint| endpoint.group.as_str()).collect();
        groups.dedup();
        assert_eq!(groups, ["health", "users", "echo"]);
        assert!(endpoints.iter().all(|endpoint| !endpoint.summary.is_empty()));
    }
}
