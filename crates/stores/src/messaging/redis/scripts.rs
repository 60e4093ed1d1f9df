//! What messaging changes in a Redis at once, in Lua. In each, `KEYS[1]` is the scope's stream and `KEYS[2]` the sorted set of
//! what a group has refused, by the time from which it may come again.

use std::sync::LazyLock;

use redis::Script;

/// Removes what all groups have settled: entries before the first that some group has not been given, or has unsettled.
const SETTLED: &str = "
local function before(a, b)
  local am, as = string.match(a, '(%d+)-(%d+)')
  local bm, bs = string.match(b, '(%d+)-(%d+)')
  am, as, bm, bs = tonumber(am), tonumber(as), tonumber(bm), tonumber(bs)
  return am < bm or (am == bm and as < bs)
end
local function trim()
  local first = nil
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local group = {}
    for at = 1, #info, 2 do group[info[at]] = info[at + 1] end
    local wanted
    if group.pending > 0 then
      wanted = redis.call('XPENDING', KEYS[1], group.name)[2]
    else
      local ms, number = string.match(group['last-delivered-id'], '(%d+)-(%d+)')
      wanted = ms .. '-' .. string.format('%.0f', tonumber(number) + 1)
    end
    if not first or before(wanted, first) then first = wanted end
  end
  if not first then return 0 end
  return redis.call('XTRIM', KEYS[1], 'MINID', '=', first)
end
";

fn script(parts: &[&str]) -> Script {
    Script::new(&parts.concat())
}

/// Adds a message, unless there are too many. Without a stream there is no group, and nobody who wants it.
pub(super) static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    script(&[
        SETTLED,
        "if redis.call('EXISTS', KEYS[1]) == 0 then return 1 end
         local most = tonumber(ARGV[1])
         if redis.call('XLEN', KEYS[1]) >= most then
           trim()
           if redis.call('XLEN', KEYS[1]) >= most then return 0 end
         end
         redis.call('XADD', KEYS[1], '*', 'topic', ARGV[2], 'headers', ARGV[3], 'body', ARGV[4])
         return 1",
    ])
});

/// See [`SETTLED`].
pub(super) static TRIM: LazyLock<Script> = LazyLock::new(|| script(&[SETTLED, "return trim()"]));

/// Takes what is due: refused and rested, or not settled in time. Gives for how long nothing more will be, and for each its
/// id, the number of its delivery, and its fields.
pub(super) static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    script(&[
        NOW,
        "local group, most = ARGV[1], tonumber(ARGV[4])
         local due = {}
         local function claim(id)
           redis.call('ZREM', KEYS[2], id)
           local entry = redis.call('XCLAIM', KEYS[1], group, ARGV[2], 0, id)[1]
           if not entry then
             redis.call('XACK', KEYS[1], group, id)
             return
           end
           local pending = redis.call('XPENDING', KEYS[1], group, id, id, 1)[1]
           due[#due + 1] = {id, pending[4], entry[2]}
         end
         for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, most)) do claim(id) end
         if #due < most then
           local late = redis.call('XPENDING', KEYS[1], group, 'IDLE', ARGV[3], '-', '+', most + 64)
           for _, pending in ipairs(late) do
             if #due < most and not redis.call('ZSCORE', KEYS[2], pending[1]) then claim(pending[1]) end
           end
         end
         local soon = math.max(1, math.floor(tonumber(ARGV[3]) / 4))
         local next = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
         if next then soon = math.min(soon, math.max(1, tonumber(next) - now)) end
         return {soon, due}",
    ])
});

/// Settles messages.
pub(super) static ACK: LazyLock<Script> = LazyLock::new(|| {
    script(&["
        local settled = 0
        for at = 2, #ARGV do
          settled = settled + redis.call('XACK', KEYS[1], ARGV[1], ARGV[at])
          redis.call('ZREM', KEYS[2], ARGV[at])
        end
        return settled"])
});

/// Puts a message off, unless it was settled or delivered again meanwhile.
pub(super) static REFUSE: LazyLock<Script> = LazyLock::new(|| {
    script(&[
        NOW,
        "local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)[1]
         if not pending or pending[4] ~= tonumber(ARGV[3]) then return 0 end
         redis.call('ZADD', KEYS[2], now + tonumber(ARGV[4]), ARGV[2])
         return 1",
    ])
});

/// Begins a message's time again, unless it was settled or delivered again meanwhile. The number of its delivery stays.
pub(super) static EXTEND: LazyLock<Script> = LazyLock::new(|| {
    script(&["
        local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)[1]
        if not pending or pending[4] ~= tonumber(ARGV[3]) then return 0 end
        redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[4], 0, ARGV[2], 'JUSTID')
        return 1"])
});

/// Puts a message back as if it had not been delivered, unless it was settled or delivered again meanwhile.
pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    script(&[
        NOW,
        "local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)[1]
         if not pending or pending[4] ~= tonumber(ARGV[3]) then return 0 end
         redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[4], 0, ARGV[2], 'RETRYCOUNT', pending[4] - 1, 'JUSTID')
         redis.call('ZADD', KEYS[2], now, ARGV[2])
         return 1",
    ])
});

/// Settles a message that was delivered in vain, and adds its dead letter where there is one. Once.
pub(super) static GIVE_UP: LazyLock<Script> = LazyLock::new(|| {
    script(&["
        if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
        redis.call('ZREM', KEYS[2], ARGV[2])
        if ARGV[3] then
          redis.call('XADD', KEYS[1], '*', 'topic', ARGV[3], 'headers', ARGV[4], 'body', ARGV[5])
        end
        return 1"])
});

/// Whether this subscriber is the one of its group that takes a request, whose requester still waits. `KEYS[1]` is where that
/// is written down.
pub(super) static TAKE_REQUEST: LazyLock<Script> = LazyLock::new(|| {
    script(&["
        if redis.call('PUBSUB', 'NUMSUB', ARGV[1])[2] == 0 then return 0 end
        if redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[2]) then return 1 end
        return 0"])
});

/// The server's time in milliseconds.
const NOW: &str = "
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
";
