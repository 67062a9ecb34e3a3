package handler

import (
	"fmt"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// TestDue is the table of what a message may ask for, and when it is due and expires then.
func TestDue(t *testing.T) {
	t.Parallel()
	const week = int64(kite.MaxLifetime / time.Second)
	now, nowMs := clock.Unix(), clock.UnixMilli()
	at := func(d time.Duration) map[string]string {
		return map[string]string{"kiteq-deliver-at": fmt.Sprint(clock.Add(d).UnixMilli())}
	}
	after := func(d string) map[string]string { return map[string]string{"kiteq-delay": d} }
	for _, c := range []struct {
		name    string
		ask     map[string]string
		change  func(*protocol.Header)
		due     time.Duration // from now
		expires int64         // from now, s
		bad     string        // of the answer
	}{
		{"nothing", map[string]string{"trace": "kiteq-delay"}, nil, 0, week, ""},
		{"after seconds", after("90s"), nil, 90 * time.Second, week + 90, ""},
		{"after a millisecond", after("1ms"), nil, time.Millisecond, week, ""},
		{"after 30 days", after("720h"), nil, kite.MaxDelay, week + 30*24*3600, ""},
		{"after nothing", after("0s"), nil, 0, week, ""},
		{"at a time", at(time.Hour), nil, time.Hour, week + 3600, ""},
		{"at the latest", at(kite.MaxDelay), nil, kite.MaxDelay, week + 30*24*3600, ""},
		{"now", at(0), nil, 0, week, ""},
		{"in the past", at(-time.Hour), nil, 0, week, ""},
		{"prepared", after("90s"), func(h *protocol.Header) { h.Commit = false }, 90 * time.Second, week + 90, ""},
		{"expires later", after("90s"), func(h *protocol.Header) { h.ExpiredTime = now + 91 }, 90 * time.Second, 91, ""},
		{"expires long after", after("90s"), func(h *protocol.Header) { h.ExpiredTime = now + 2*week }, 90 * time.Second, week + 90, ""},
		{"no duration", after("90"), nil, 0, 0, `Bad Delay: kiteq-delay="90", use a duration from 0s to 720h, as in 90s`},
		{"empty", after(""), nil, 0, 0, `Bad Delay: kiteq-delay="", use a duration from 0s to 720h, as in 90s`},
		{"negative", after("-1s"), nil, 0, 0, `Bad Delay: kiteq-delay="-1s", use a duration from 0s to 720h, as in 90s`},
		{"too long", after("720h1ms"), nil, 0, 0, `Bad Delay: kiteq-delay="720h1ms", use a duration from 0s to 720h, as in 90s`},
		{"no time", map[string]string{"kiteq-deliver-at": "tomorrow"}, nil, 0, 0, `Bad Delay: kiteq-deliver-at="tomorrow", use a time in Unix ms, at most 30 days from now`},
		{"a negative time", map[string]string{"kiteq-deliver-at": "-5"}, nil, 0, 0, `Bad Delay: kiteq-deliver-at="-5", use a time in Unix ms, at most 30 days from now`},
		{
			"too late", at(kite.MaxDelay + time.Millisecond), nil, 0, 0,
			fmt.Sprintf(`Bad Delay: kiteq-deliver-at="%d", use a time in Unix ms, at most 30 days from now`, nowMs+kite.MaxDelay.Milliseconds()+1),
		},
		{"both", map[string]string{"kiteq-delay": "1s", "kiteq-deliver-at": "5"}, nil, 0, 0, "Bad Delay: kiteq-delay and kiteq-deliver-at, use one of them"},
		{
			"expires before", after("90s"), func(h *protocol.Header) { h.ExpiredTime = now + 90 }, 0, 0,
			fmt.Sprintf("Bad Delay: due at %d ms, and expired by then: expiredTime=%d, use a later one or none", nowMs+90_000, now+90),
		},
		{"fly", after("90s"), func(h *protocol.Header) { h.Fly = true }, 0, 0, "Bad Delay: a fly message is not stored, it cannot wait"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s, _ := r.member(protocol.FramingG, "p-trade")
			h := header(c.change)
			h.Properties = c.ask
			got, err := r.say(s, publish(protocol.FramingG, 3, h))
			if err != nil {
				t.Fatal(err)
			}
			if c.bad != "" {
				expect(t, got, fmt.Sprintf("storeAck 3 %s false %s", h.MessageID, c.bad))
				if n := len(r.items()); n != 0 {
					t.Errorf("the lane got %d items", n)
				}
				return
			}
			want := int64(0)
			if c.due > 0 {
				want = nowMs + c.due.Milliseconds()
			}
			item := r.items()[0]
			if item.DueMs != want || item.ExpiresMs != (now+c.expires)*1000 {
				t.Errorf("due %d, expires %d; want %d, %d", item.DueMs, item.ExpiresMs, want, (now+c.expires)*1000)
			}
		})
	}
}
