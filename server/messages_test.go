package server

import (
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// TestMessages pages through a topic by sequence, by time, and from its end; bytes end a page, too.
func TestMessages(t *testing.T) {
	t.Parallel()
	s, _ := start(t, testConfig(), Control{})
	ctx := t.Context()
	if page, err := s.Messages(ctx, "trade", operate.Peek{Limit: 3}); err != nil || page.First <= page.Head || len(page.Messages) != 0 {
		t.Errorf("of an empty topic: %+v, %v", page, err)
	}
	var storedMs []int64
	for n := range 5 {
		body := []byte("no message")
		if n == 1 {
			body = make([]byte, peekBytes)
		}
		done, err := s.lane.Do(ctx, kite.Item{Record: kite.Record{
			Kind: kite.KindMessage, ID: kite.MessageID{1, byte(n)}, Topic: "trade", Type: []byte("paid"), Body: body,
		}, Outcome: kite.OutcomeCommitted})
		if err != nil || done.Verdict != kite.OK {
			t.Fatal(done.Verdict, err)
		}
		storedMs = append(storedMs, done.TimeMs)
	}
	for name, c := range map[string]struct {
		peek operate.Peek
		want []uint64
		next uint64
	}{
		"newest":       {operate.Peek{Limit: 2}, []uint64{4, 5}, 0},
		"all":          {operate.Peek{From: 3, Limit: 100}, []uint64{3, 4, 5}, 0},
		"a page":       {operate.Peek{From: 3, Limit: 2}, []uint64{3, 4}, 5},
		"bytes end it": {operate.Peek{From: 1, Limit: 100}, []uint64{1, 2}, 3},
		"too far":      {operate.Peek{From: 9, Limit: 1}, nil, 0},
		"by time":      {operate.Peek{Time: "0", Limit: 1}, []uint64{1}, 2},
	} {
		page, err := s.Messages(ctx, "trade", c.peek)
		var got []uint64
		for _, m := range page.Messages {
			got = append(got, m.Seq)
		}
		if err != nil || len(got) != len(c.want) || page.Next != c.next || page.First != 1 || page.Head != 5 {
			t.Errorf("%s: %v, next %d, %v; want %v, next %d", name, got, page.Next, err, c.want, c.next)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] || page.Messages[i].StoredMs != storedMs[got[i]-1] || page.Messages[i].Type != "paid" {
				t.Errorf("%s: %+v", name, page.Messages[i])
			}
		}
	}
	for topic, p := range map[string]operate.Peek{"stock": {Limit: 1}, "trade": {Time: "noon", Limit: 1}} {
		want := map[string]kite.Code{"stock": kite.NotServed, "trade": kite.Invalid}[topic]
		if _, err := s.Messages(ctx, topic, p); kite.CodeOf(err) != want {
			t.Errorf("topic %s: %v, want code %v", topic, err, want)
		}
	}
}
