package server

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

type statAnswer struct {
	Kiteq struct {
		Goroutine     int
		DeliverGo     int              `json:"deliver_go"`
		DeliverCount  int64            `json:"deliver_count"`
		RecieveCount  int64            `json:"recieve_count"`
		MessageCount  map[string]int64 `json:"message_count"`
		TopicsDeliver map[string]int64 `json:"topics_deliver"`
		TopicsRecieve map[string]int64 `json:"topics_recieve"`
		Groups        map[string][]string
		AcceptLimiter [2]int64 `json:"accept_limiter"`
	}
	Network struct {
		ReadBytes  int64 `json:"read_bytes"`
		WriteBytes int64 `json:"write_bytes"`
		DispoolCap int   `json:"dispool_cap"`
		Connected  int   `json:"connections"`
	}
}

// TestStat follows messages through a broker by what /stat says.
func TestStat(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.Topics = []string{"trade", "fee"}
	s, _ := start(t, c, Control{})
	r := directory(t, s)
	bind(t, r, "s-slow", true, "trade")
	bind(t, r, "s-fast", true, "trade")
	bind(t, r, "s-volatile", false, "trade", "fee")
	eventually(t, 10*time.Second, func() string {
		if n := len(s.exchange.Routes()); n != 4 {
			return fmt.Sprintf("%d routes", n)
		}
		return ""
	})
	expect := func(why string, check func(a *statAnswer) bool) {
		t.Helper()
		eventually(t, 15*time.Second, func() string {
			var a statAnswer
			if body := get(t, s, "/stat", &a); !check(&a) {
				return why + ": " + body
			}
			return ""
		})
	}
	expect("idle", func(a *statAnswer) bool {
		count, ok := a.Kiteq.MessageCount["trade"]
		return ok && count == 0 && len(a.Kiteq.MessageCount) == 2 && a.Kiteq.Goroutine > 0 && a.Network.DispoolCap == 65536 &&
			a.Kiteq.AcceptLimiter == [2]int64{0, math.MaxInt32}
	})
	producer, fast := connect(t, s, "p-test"), connect(t, s, "s-fast")
	for _, answer := range producer.publish("trade", 20) {
		if !strings.HasPrefix(answer, "true") {
			t.Fatal(answer)
		}
	}
	fast.consume(20)
	expect("the slowest group has it all to come", func(a *statAnswer) bool {
		return a.Kiteq.MessageCount["trade"] == 20 && a.Kiteq.MessageCount["fee"] == 0 && a.Network.Connected == 2 &&
			slices.Equal(a.Kiteq.Groups["s-fast"], []string{fast.conn.LocalAddr().String()}) && len(a.Kiteq.Groups["p-test"]) == 1
	})
	slow := connect(t, s, "s-slow")
	expect("in flight", func(a *statAnswer) bool { return a.Kiteq.DeliverGo == 20 })
	slow.consume(20)
	expect("settled", func(a *statAnswer) bool { return a.Kiteq.MessageCount["trade"] == 0 && a.Kiteq.DeliverGo == 0 })

	before, err := s.Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	producer.publish("trade", 5)
	fast.consume(5)
	slow.consume(5)
	now, err := s.Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	delivered := int64(0)
	for i := range now.Flows {
		delivered += now.Flows[i].Delivered - before.Flows[i].Delivered
	}
	if now.Received["trade"]-before.Received["trade"] != 5 || now.Accepted-before.Accepted != 5 || delivered != 10 ||
		now.ReadBytes <= before.ReadBytes || now.WriteBytes <= before.WriteBytes || now.Reads <= before.Reads || now.Writes <= before.Writes {
		t.Errorf("before %+v\nnow %+v", before, now)
	}
	expect("a second with messages", func(a *statAnswer) bool {
		producer.publish("trade", 1)
		fast.consume(1)
		slow.consume(1)
		n := a.Kiteq.RecieveCount
		return n > 0 && a.Kiteq.TopicsRecieve["trade"] == n && a.Kiteq.AcceptLimiter[0] == n &&
			a.Kiteq.DeliverCount > 0 && a.Kiteq.TopicsDeliver["trade"] == a.Kiteq.DeliverCount &&
			a.Network.ReadBytes > 0 && a.Network.WriteBytes > 0
	})
}

// TestAcceptLimit refuses what comes too fast, over all connections together.
func TestAcceptLimit(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.AcceptPerSecond = 2 // one at once: the bucket fills too slowly for this test to notice
	s, _ := start(t, c, Control{})
	answers := connect(t, s, "p-a").publish("trade", 3)
	answers = append(answers, connect(t, s, "p-b").publish("nothing", 2)...)
	refused := 0
	for _, answer := range answers {
		if strings.HasPrefix(answer, "false Store Result KiteQ OverFlow [127.0.0.1:") {
			refused++
		}
	}
	if refused < 3 || refused > 4 { // 4, unless half a second went by
		t.Errorf("answers %q", answers)
	}
	counters, err := s.Counters(t.Context())
	if err != nil || counters.AcceptLimit != 2 || counters.Accepted != int64(len(answers)-refused) {
		t.Errorf("%+v, %v; want limit 2 and %d accepted", counters, err, len(answers)-refused)
	}
}

// TestMock accepts, and delivers nothing.
func TestMock(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.Store = "mock://"
	s, log := start(t, c, Control{})
	r := directory(t, s)
	bind(t, r, "s-all", true, "trade")
	eventually(t, 10*time.Second, func() string {
		if len(s.exchange.Routes()) == 0 {
			return "the binding is not read"
		}
		return ""
	})
	connect(t, s, "s-all")
	for _, answer := range connect(t, s, "p-test").publish("trade", 100) {
		if !strings.HasPrefix(answer, "true") || !strings.HasSuffix(answer, " mem") {
			t.Fatal(answer)
		}
	}
	eventually(t, 10*time.Second, func() string { // the flow has passed everything
		flows, err := s.flows(t.Context())
		if err != nil || len(flows) != 1 || flows[0].Backlog != 0 {
			return fmt.Sprintf("%+v, %v", flows, err)
		}
		if flows[0].Delivered != 0 {
			t.Fatalf("%+v", flows)
		}
		return ""
	})
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("log:\n%s", log)
	}
}
