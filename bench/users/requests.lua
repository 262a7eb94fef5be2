-- Requests for wrk, and its result as one line of JSON.
--
-- Arguments after `--`: `read PATH FIRST LAST` asks for PATH with `{id}` replaced by random ids between FIRST and LAST (a path
-- without it is asked as it is); `create PREFIX` posts users whose names are all different.

local kind, requests, made = nil, {}, 0
local prefix, thread_number = "", 0

local threads = 0
function setup(thread)
    threads = threads + 1
    thread:set("thread_number", threads)
end

function init(arguments)
    kind = arguments[1]
    if kind == "read" then
        local path, first, last = arguments[2], tonumber(arguments[3]), tonumber(arguments[4])
        math.randomseed(7 + thread_number)
        -- Made before the first is sent, because wrk must not be what is slow.
        for n = 1, 10000 do
            local id = string.format("%d", math.random(first, last))
            requests[n] = wrk.format("GET", (path:gsub("{id}", id)))
        end
    else
        prefix = arguments[2] .. "-" .. thread_number .. "-"
        wrk.headers["Content-Type"] = "application/json"
    end
end

function request()
    made = made + 1
    if kind == "read" then
        return requests[made % #requests + 1]
    end
    return wrk.format("POST", "/api/users", nil, '{"name":"' .. prefix .. made .. '"}')
end

function done(summary, latency, _)
    local errors = summary.errors
    io.write(string.format(
        '\n{"requests": %d, "seconds": %.6f, "errors": %d, "p50_us": %d, "p99_us": %d}\n',
        summary.requests, summary.duration / 1e6,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout,
        latency:percentile(50), latency:percentile(99)))
end
