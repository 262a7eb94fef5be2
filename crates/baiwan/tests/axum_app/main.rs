//! An unchanged axum 0.8 `Router`, and what people put into one, on real sockets: each case runs on both event loops.
//!
//! | file | part |
//! |---|---|
//! | `rig` | a private server on a free port, a client that reads what comes, waiting for a condition |
//! | `extractors`, `layers` | what axum and tower-http bring |
//! | `streams` | bodies that come and go in pieces, and back-pressure |
//! | `examples` | those of this crate that do more than answer |
//! | `ecosystem` | Tokio, reqwest and sqlx inside handlers |
//! | `protocol` | what the server decides of HTTP by itself |
//! | `limits` | how long heads may be |
//! | `route_limits` | limits of one route in the place of the server's |
//! | `refused` | what the server answers by itself: rate limit, CORS, `EventSource` |
//! | `reloaded` | settings that change while the server runs |
//! | `metrics` | what a server counts, and by what |
//! | `exact` | what a server counts, against what its clients have counted |
//! | `records` | what an observer is told of exchanges |
//! | `named`, `access_log` | what requests are called; the lines of the access log |
//! | `serving` | `baiwan::serve` in the place of `axum::serve`: listeners, kinds of apps, the end |
//! | `life` | where and how often a server may be started, ended and dropped |
//! | `connected` | a `ConnectInfo` of the app's own |
//! | `clients`, `haproxy` | who the client is, behind proxies; and behind a real one |
//! | `hub` | state that the cores share |
//! | `afterwards` | what cores do for each other, and for what handlers left behind, when a server stops |
//! | `restarts` | a server that stops under load, again and again |
//! | `upgrades` | other protocols than HTTP |
//! | `ending_extractor` | handlers that take their leave when the server stops |
//! | `listening`, `listening_on_linux`, `ending` | addresses and limits; panics, dropping, stopping |

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod access_log;
mod afterwards;
mod clients;
mod connected;
mod ecosystem;
mod ending;
mod ending_extractor;
mod exact;
mod examples;
mod extractors;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod haproxy;
mod hub;
mod layers;
mod life;
mod limits;
mod listening;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod listening_on_linux;
mod metrics;
mod named;
mod protocol;
mod records;
mod refused;
mod reloaded;
mod restarts;
mod rig;
mod route_limits;
mod serving;
mod streams;
mod upgrades;

/// Makes of each case a test for each event loop.
macro_rules! on_both_event_loops {
    ($($file:ident: $($case:ident),* $(,)?;)*) => {
        #[cfg(all(target_os = "linux", not(baiwan_portable)))]
        mod epoll {
            $($(#[test]
            fn $case() {
                crate::$file::$case(baiwan::EventLoop::Epoll);
            })*)*
        }

        mod portable {
            $($(#[test]
            fn $case() {
                crate::$file::$case(baiwan::EventLoop::Portable);
            })*)*
        }
    };
}

on_both_event_loops! {
    extractors:
        extractors_give_what_the_request_says,
        an_extractor_that_refuses_answers_itself,
        connect_info_is_the_address_of_the_client,
        methods_and_paths_are_matched_as_axum_does;
    layers:
        the_trace_layer_sees_each_request_and_its_answer,
        the_cors_layer_answers_a_preflight,
        the_timeout_layer_answers_for_a_handler_that_is_late,
        the_compression_layer_compresses_for_those_who_ask,
        a_layer_around_the_whole_router_changes_what_is_routed;
    streams:
        an_upload_of_a_gibibyte_needs_no_memory,
        a_handler_that_does_not_read_stops_its_sender,
        a_reader_that_stops_stops_the_producer,
        a_request_and_its_answer_stream_at_the_same_time,
        events_arrive_one_by_one_while_the_stream_is_open;
    protocol:
        an_answer_is_checked_and_framed_alike_on_both_event_loops,
        a_body_beyond_its_announced_length_is_cut_before_the_first_byte_of_that,
        connect_is_refused_before_the_app,
        announced_trailers_follow_a_body_of_known_length,
        options_asterisk_is_answered_without_the_app,
        options_asterisk_reaches_an_app_that_asks_for_it;
    limits:
        small_limits_of_heads_hold_to_the_byte,
        great_limits_of_heads_hold_to_the_byte,
        a_long_head_comes_in_pieces,
        long_heads_wait_behind_a_pending_answer,
        a_long_head_that_offers_another_protocol_is_taken_up;
    route_limits:
        a_route_may_take_longer_than_the_server_allows,
        a_route_may_take_less_time_than_the_server_allows,
        a_route_may_take_a_body_that_hardly_comes,
        a_body_beyond_the_limit_of_its_route_is_refused;
    reloaded:
        a_program_changes_limits_and_timeouts_and_no_connection_closes,
        what_cannot_change_is_refused_and_nothing_changes;
    ecosystem:
        tasks_timers_and_blocking_calls_work_in_handlers,
        a_handler_fetches_from_its_own_server_and_from_another,
        a_pool_from_before_the_start_serves_all_cores,
        a_pool_for_each_core_is_made_on_its_thread;
    examples:
        a_page_of_twenty_parts_has_what_came_back,
        a_part_that_does_not_come_holds_nobody_up_beyond_the_deadline;
    records:
        a_router_tells_the_whole_template_of_each_route,
        a_layer_tells_the_route_where_the_app_is_no_router,
        a_router_that_is_nested_as_a_service_tells_the_whole_template,
        every_exchange_has_one_record_that_says_how_it_ended,
        exchanges_of_one_connection_have_a_record_each,
        a_head_that_does_not_come_has_a_record_and_a_silent_connection_has_none,
        what_is_too_long_has_a_record_with_its_status,
        a_peer_that_leaves_in_the_middle_ends_its_exchange,
        a_stop_that_cuts_ends_the_exchanges_that_it_cuts,
        whoever_is_beyond_the_maximum_has_a_record,
        a_panic_of_the_apps_clone_has_a_record_with_its_method;
    exact:
        every_counter_equals_what_the_clients_counted;
    metrics:
        what_limits_refuse_is_counted_by_name,
        what_limits_among_the_layers_decide_is_counted_as_the_servers,
        a_connection_is_counted_by_what_it_waits_for,
        neither_paths_nor_methods_make_series,
        a_scrape_says_what_the_table_has,
        a_scrape_beside_full_load_disturbs_nobody,
        a_peer_that_left_is_counted_without_a_status;
    refused:
        requests_that_are_too_many_are_refused_and_their_connection_goes_on,
        offers_of_another_protocol_count_once_each,
        a_page_of_a_listed_origin_reads_what_the_server_says,
        an_event_source_is_told_when_to_come_back,
        nobody_is_refused_in_report_mode_or_who_is_exempt_or_over_a_unix_socket;
    named:
        every_answer_says_what_its_request_is_called,
        refusals_of_the_gate_say_it_too,
        only_a_trusted_proxy_names_requests_where_there_is_one,
        nothing_is_said_until_it_is_asked_for,
        a_page_of_another_site_may_read_it;
    access_log:
        a_line_says_what_an_exchange_was,
        every_exchange_is_a_line_when_the_server_has_stopped,
        row_62_failures_are_always_there_and_the_rest_in_part,
        row_62_nothing_that_a_client_sends_breaks_a_line,
        a_file_that_was_moved_away_is_opened_anew,
        a_file_that_cannot_be_opened_costs_its_lines_and_is_tried_again,
        the_log_of_a_switched_connection_has_its_101;
    clients:
        a_handler_and_a_record_name_the_client_behind_a_trusted_proxy,
        a_request_that_offers_another_protocol_knows_its_client,
        a_named_field_is_the_only_one,
        row_59_what_an_untrusted_peer_says_of_the_client_is_counted_and_not_believed,
        a_proxy_over_a_unix_socket_is_believed_if_it_is_trusted,
        a_field_of_proxies_needs_a_proxy;
    hub:
        a_hub_connects_clients_of_two_cores;
    connected:
        an_app_learns_both_addresses_of_a_tcp_connection,
        an_app_learns_who_is_at_the_other_end_of_a_unix_socket,
        it_is_made_once_for_each_connection_and_ends_with_it,
        it_is_there_for_a_request_that_offers_another_protocol,
        a_panic_in_making_it_costs_that_connection_alone,
        a_panic_when_it_is_dropped_costs_neither_others_nor_the_stop,
        answers_leave_at_once_unless_the_builder_says_otherwise,
        the_record_has_the_route_of_a_router_inside_of_what_axum_serves;
    listening:
        a_unix_socket_is_served,
        the_file_of_a_unix_socket_has_its_mode_and_goes_with_the_stop,
        a_socket_that_cannot_be_served_is_named,
        a_socket_that_listens_already_is_taken_over,
        each_core_serves_a_listener_that_they_share,
        the_ipv6_wildcard_serves_both_versions,
        both_wildcards_serve_a_port_together,
        an_address_that_another_one_covers_is_called_so,
        an_unknown_host_is_not_called_a_wrong_address,
        running_inside_a_runtime_is_an_error,
        one_connection_too_many_is_not_served;
    ending:
        a_panic_costs_its_own_request_alone,
        a_panic_in_a_response_body_cuts_that_answer_alone,
        dropping_the_server_cuts_its_connections,
        a_stop_answers_what_was_received,
        whoever_polls_a_server_sees_each_step_of_its_stop,
        a_stop_leaves_a_listener_that_somebody_else_holds,
        a_stop_is_seen_whenever_it_comes,
        a_plain_tower_service_is_an_app,
        an_app_that_cannot_leave_its_thread_is_served;
    afterwards:
        a_core_that_is_done_serves_the_others_until_all_are,
        a_job_that_a_handler_left_behind_is_finished,
        a_job_may_go_on_for_the_grace_and_the_time_of_the_stop,
        a_chain_of_jobs_that_changes_cores_is_finished,
        dropping_the_server_ends_the_grace,
        what_the_app_alone_holds_ends_before_the_grace,
        a_job_may_use_what_lives_on_another_core,
        a_core_that_a_handler_blocks_is_given_up_when_the_time_of_the_stop_is_over;
    ending_extractor:
        a_web_socket_says_that_it_goes_away_when_its_server_stops,
        a_stream_of_events_tells_when_to_come_back,
        a_long_poll_is_answered_when_its_server_stops;
    restarts:
        no_request_fails_and_no_job_is_lost_when_a_busy_server_stops;
    upgrades:
        a_web_socket_carries_text_binary_and_a_mebibyte,
        row_31_bytes_behind_the_head_wait_for_the_101,
        row_31_without_a_101_no_byte_reaches_the_protocol,
        row_31_an_offer_with_a_body_is_not_taken,
        row_32_a_wrong_handshake_is_refused,
        row_33_h2c_is_ignored,
        an_offer_that_the_app_ignores_is_answered,
        answers_leave_before_the_connection_switches,
        each_end_of_a_web_socket_has_its_reason,
        web_sockets_count_as_connections,
        a_stop_ends_silent_web_sockets_first_and_the_others_at_its_end,
        a_stop_without_time_cuts_web_sockets,
        a_stop_ends_when_the_last_web_socket_does,
        a_panic_before_the_101_is_a_500,
        a_panic_in_the_body_of_an_answer_to_an_offer_is_the_handlers,
        a_panic_beside_a_web_socket_is_the_handlers,
        an_answer_to_an_offer_is_framed_by_the_server_alone,
        a_handler_that_is_late_to_switch_is_a_503,
        an_app_that_fails_or_switches_unasked_is_a_500,
        a_panic_of_the_apps_clone_costs_its_own_request_alone,
        a_panic_of_any_clone_of_the_app_costs_its_own_connection_alone,
        a_peer_that_takes_nothing_is_given_up,
        a_peer_that_takes_little_is_kept,
        a_web_socket_may_live_on_another_thread,
        a_unix_socket_carries_web_sockets;
}

/// What only Linux has, or is spoken of in words of Linux.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod linux {
    on_both_event_loops! {
        listening_on_linux:
            an_address_in_use_is_one_clear_line,
            an_abstract_socket_is_served,
            at_a_path_a_dead_socket_is_replaced_and_nothing_else,
            an_address_that_is_given_twice_is_called_so;
    }
}
