package deliver

import (
	"runtime"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Options of delivery.
type Options struct {
	// AckTimeout is how long a delivery may stay unanswered before it is sent again. Default 5s, 100ms to 1h.
	AckTimeout time.Duration `toml:"ack_timeout" reload:"live"`
	// Window bounds the messages of one flow that are sent, or wait to be sent again, at a time.
	// Default 4096, 1 to 65536.
	Window int `toml:"window" reload:"live"`
	// Shards is how many goroutines deliver; a group belongs to one. Default the number of processors, 1 to 64.
	Shards int `toml:"shards"`
	// ProgressEvery is how long settled messages may stay unrecorded: what a kill -9 repeats at most.
	// With more than 64 flows that move it is longer in proportion, up to 1s. Default 50ms, 1ms to 10s.
	ProgressEvery time.Duration `toml:"progress_every" reload:"live"`
	// BindSkew is taken off the time at which a group was first bound, when its first message is looked
	// for: the registry's clock and ours differ. Default 2s, 0 to 1h.
	BindSkew time.Duration `toml:"bind_skew"`
	// Watermark is how many deliveries a second a group takes whose binding says nothing. Default 6000.
	Watermark int `toml:"watermark" reload:"live"`
	// Retry says for single groups how long a message waits before it is sent again: after the first failed
	// attempt, after the second and so on; the last pause holds for all that follow. 1 to 32 pauses of 0s to
	// 24h. Default none: 0s after attempts 1 to 3, then 5s, which grows to 160s from the 50th on.
	Retry map[string][]time.Duration `toml:"retry" reload:"live"`
	// BreakerAfter is how many different messages of a flow must fail without an ack between them, and go on
	// failing for two seconds, before only probes are sent to its group. Default 20, 1 to 1000; -1: off.
	BreakerAfter int `toml:"breaker_after" reload:"live"`
	// DeadRetention is how long dead letters are kept that nobody discards. Default 720h, 1m to 87600h.
	DeadRetention time.Duration `toml:"dead_retention" reload:"live"`
}

// WithDefaults returns the options with the default in place of every zero.
func (o Options) WithDefaults() Options {
	if o.AckTimeout == 0 {
		o.AckTimeout = 5 * time.Second
	}
	if o.Window == 0 {
		o.Window = 4096
	}
	if o.Shards == 0 {
		o.Shards = min(runtime.GOMAXPROCS(0), 64)
	}
	if o.ProgressEvery == 0 {
		o.ProgressEvery = 50 * time.Millisecond
	}
	if o.BindSkew == 0 {
		o.BindSkew = 2 * time.Second
	}
	if o.Watermark == 0 {
		o.Watermark = 6000
	}
	if o.Retry == nil {
		o.Retry = map[string][]time.Duration{}
	}
	if o.BreakerAfter == 0 {
		o.BreakerAfter = 20
	}
	if o.DeadRetention == 0 {
		o.DeadRetention = 720 * time.Hour
	}
	return o
}

// Validate returns every problem, joined.
func (o Options) Validate() error {
	var problems kite.Problems
	problems.Check(o.AckTimeout >= 100*time.Millisecond && o.AckTimeout <= time.Hour, "ack timeout %v: use 100ms to 1h", o.AckTimeout)
	problems.Check(o.Window >= 1 && o.Window <= 1<<16, "window %d: use 1 to 65536", o.Window)
	problems.Check(o.Shards >= 1 && o.Shards <= 64, "shards %d: use 1 to 64", o.Shards)
	problems.Check(o.ProgressEvery >= time.Millisecond && o.ProgressEvery <= 10*time.Second, "progress every %v: use 1ms to 10s", o.ProgressEvery)
	problems.Check(o.BindSkew >= 0 && o.BindSkew <= time.Hour, "bind skew %v: use 0 to 1h", o.BindSkew)
	problems.Check(o.Watermark >= 1, "watermark %d: use 1 or more", o.Watermark)
	problems.Check(o.BreakerAfter == -1 || o.BreakerAfter >= 1 && o.BreakerAfter <= 1000, "breaker after %d: use 1 to 1000, or -1 for off", o.BreakerAfter)
	problems.Check(o.DeadRetention >= time.Minute && o.DeadRetention <= 87600*time.Hour, "dead retention %v: use 1m to 87600h", o.DeadRetention)
	checkPolicies(o.Retry, &problems)
	return problems.Err()
}
