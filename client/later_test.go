package client

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/protocol"
)

// TestLater is what a message that is to be delivered later asks the broker, and what it is refused here.
func TestLater(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_123)
	for _, c := range []struct {
		name string
		m    Message
		want map[string]string
		bad  string // in the error
	}{
		{name: "at once", want: nil},
		{name: "after", m: Message{Delay: 90 * time.Second}, want: map[string]string{"kiteq-delay": "1m30s"}},
		{name: "after the longest", m: Message{Delay: MaxDelay}, want: map[string]string{"kiteq-delay": "720h0m0s"}},
		{name: "at", m: Message{DeliverAt: now.Add(time.Hour)}, want: map[string]string{"kiteq-deliver-at": "1700003600123"}},
		{name: "in the past", m: Message{DeliverAt: now.Add(-time.Hour), Fly: true}, want: map[string]string{"kiteq-deliver-at": "1699996400123"}},
		{
			name: "beside properties", m: Message{Delay: time.Second, Properties: map[string]string{"trace": "7"}},
			want: map[string]string{"trace": "7", "kiteq-delay": "1s"},
		},
		{name: "expires later", m: Message{Delay: time.Second, Expires: now.Add(time.Minute)}, want: map[string]string{"kiteq-delay": "1s"}},
		{name: "both", m: Message{Delay: 1, DeliverAt: now}, bad: "give one of them"},
		{name: "negative", m: Message{Delay: -1}, bad: "0 to 720h"},
		{name: "too long", m: Message{Delay: MaxDelay + 1}, bad: "0 to 720h"},
		{name: "too late", m: Message{DeliverAt: now.Add(MaxDelay + time.Second)}, bad: "at most 720h"},
		{name: "before 1970", m: Message{DeliverAt: time.Unix(-5, 0)}, bad: "at most 720h"},
		{name: "fly", m: Message{Delay: 1, Fly: true}, bad: "leave Fly unset"},
		{name: "expires before", m: Message{Delay: time.Minute, Expires: now.Add(time.Minute)}, bad: "before it is due"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.m.Topic, c.m.Type = "trade", "pay"
			before := maps.Clone(c.m.Properties)
			o, err := c.m.outgoing("p-trade", true, now)
			if c.bad != "" {
				if err == nil || !strings.Contains(err.Error(), c.bad) {
					t.Errorf("error %v, want %q", err, c.bad)
				}
				return
			}
			if err != nil || !maps.Equal(o.header.Properties, c.want) {
				t.Errorf("properties %v, %v; want %v", o.header.Properties, err, c.want)
			}
			if !maps.Equal(before, c.m.Properties) {
				t.Error("the caller's properties changed")
			}
			if size := len(o.appendTo(nil, 1)); size > c.m.size("p-trade", 0) {
				t.Errorf("%d bytes, at most %d were expected", size, c.m.size("p-trade", 0))
			}
		})
	}
	if err := refusal("broker", []byte(protocol.FeedbackDelay+"x")); CodeOf(err) != Invalid || retriable(err) {
		t.Errorf("a broker's refusal: %v", err)
	}
}
