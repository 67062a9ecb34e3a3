package admin

import (
	"context"
	"math"
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Broker is what operators ask about.
type Broker interface {
	// Ready returns why the broker does not serve, or nil.
	Ready() error
	// Counters returns what the broker has counted and holds. It may wait until ctx ends.
	Counters(ctx context.Context) (Counters, error)
	// Reload reads the configuration again and returns the topics that are served now. After an error
	// the old ones are.
	Reload(ctx context.Context) (topics []string, err error)
	// LogLevel returns what is logged at least: debug, info, warn or error. SetLogLevel changes it until the
	// configuration does.
	LogLevel() string
	SetLogLevel(level, by string) error
	// Metrics answers /metrics.
	Metrics() http.Handler
}

// Counters is a broker at one moment. What is called a count grows from the start on.
type Counters struct {
	// Topics are those that are served.
	Topics []string
	// Classes are what their messages are when they are answered.
	Classes kite.Classes
	// Received counts the publishes by topic.
	Received map[string]int64
	// Accepted counts the publishes that the accept limit let through; AcceptLimit is how many it lets
	// through a second, 0 without one.
	Accepted    int64
	AcceptLimit int
	// Flows has every group that is bound to a topic.
	Flows []Flow
	// BadBindings counts the bindings that were left out because they could not be understood.
	BadBindings int64
	// Groups gives the "ip:port" of each group's members.
	Groups map[string][]string
	// InFlight is how many deliveries are unanswered.
	InFlight int
	// Delayed is how many messages wait for their time, DelayedNear how many of them are in memory, and
	// DelayedMinutes in how many minutes the others are due.
	Delayed                     int64
	DelayedNear, DelayedMinutes int
	// Waiting is how many requests wait for the journal, WaitingMax how many may.
	Waiting, WaitingMax int
	// Acked is how long publishes took from the read to their answer, Sent how long messages had been stored
	// when they were sent for the first time.
	Acked, Sent kite.Timing

	Reads, ReadBytes, Writes, WriteBytes int64 // counts
	Connections                          int
}

// Flow is a topic on its way to a group.
type Flow struct {
	Topic, Group string
	// Acquired counts the deliveries that the watermark, Limit a second, let through; Delivered counts
	// the fly messages, too.
	Acquired, Delivered int64
	Limit               int
	// Backlog is how many messages the group must still get: 0 for one that is not durable.
	Backlog int64
}

// stat is the answer of /stat (interop contract §9.3).
type stat struct {
	Kiteq struct {
		Goroutine     int                 `json:"goroutine"`
		DeliverGo     int                 `json:"deliver_go"` // deliveries in flight
		DeliverCount  int64               `json:"deliver_count"`
		RecieveCount  int64               `json:"recieve_count"`
		MessageCount  map[string]int64    `json:"message_count"` // of the slowest durable group
		TopicsDeliver map[string]int64    `json:"topics_deliver"`
		TopicsRecieve map[string]int64    `json:"topics_recieve"`
		TopicsClass   map[string]string   `json:"topics_class"` // durability; the original has none
		Groups        map[string][]string `json:"groups"`
		AcceptLimiter [2]int64            `json:"accept_limiter"` // used, limit
		BadBindings   int64               `json:"bad_bindings"`   // since the start; the original has no such count

		// Messages for later, which the original does not have.
		Delayed        int64 `json:"delayed"`
		DelayedNear    int   `json:"delayed_near"`
		DelayedMinutes int   `json:"delayed_minutes"`
	} `json:"kiteq"`
	Network struct {
		ReadCount    int64 `json:"read_count"`
		ReadBytes    int64 `json:"read_bytes"`
		WriteCount   int64 `json:"write_count"`
		WriteBytes   int64 `json:"write_bytes"`
		DispoolSize  int   `json:"dispool_size"`
		DispoolCap   int   `json:"dispool_cap"`
		Connections  int   `json:"connections"`
		DispatcherGo int   `json:"dispatcher_go"` // the old name of dispool_size, which kiteq-ops reads
	} `json:"network"`
}

// binds is the answer of /binds.
type binds struct {
	Groups   map[string][]string            `json:"topic_2_groups"`
	Limiters map[string]map[string][2]int64 `json:"topic_limiters"` // acquired, limit
}

// unlimited stands for no limit: tools divide by the limit, and some hold it in 32 bits.
const unlimited = math.MaxInt32

// rates turns two counts into what came in a second between them. A count that begins anew, as that of a
// topic which was away, counts from 0.
type rates struct{ elapsed time.Duration }

func (r rates) perSecond(before, now int64) int64 {
	if r.elapsed <= 0 {
		return 0
	}
	if now < before {
		before = 0
	}
	return int64(math.Round(float64(now-before) / r.elapsed.Seconds()))
}

// newStat describes the time between two moments.
func newStat(before, now Counters, elapsed time.Duration) stat {
	r := rates{elapsed}
	var s stat
	k := &s.Kiteq
	k.Goroutine, k.DeliverGo = runtime.NumGoroutine(), now.InFlight
	k.MessageCount, k.TopicsDeliver, k.TopicsRecieve = map[string]int64{}, map[string]int64{}, map[string]int64{}
	k.TopicsClass = map[string]string{}
	for _, topic := range now.Topics {
		n := r.perSecond(before.Received[topic], now.Received[topic])
		k.MessageCount[topic], k.TopicsDeliver[topic], k.TopicsRecieve[topic] = 0, 0, n
		k.RecieveCount += n
		k.TopicsClass[topic] = string(now.Classes.Of(topic))
	}
	earlier := byKey(before.Flows)
	for _, f := range now.Flows {
		n := r.perSecond(earlier[f.key()].Delivered, f.Delivered)
		k.TopicsDeliver[f.Topic] += n
		k.DeliverCount += n
		k.MessageCount[f.Topic] = max(k.MessageCount[f.Topic], f.Backlog)
	}
	k.Groups = map[string][]string{}
	for group, members := range now.Groups {
		k.Groups[group] = append([]string{}, members...) // [] and not null
	}
	k.AcceptLimiter = [2]int64{r.perSecond(before.Accepted, now.Accepted), int64(now.AcceptLimit)}
	k.BadBindings = now.BadBindings
	k.Delayed, k.DelayedNear, k.DelayedMinutes = now.Delayed, now.DelayedNear, now.DelayedMinutes
	if now.AcceptLimit == 0 {
		k.AcceptLimiter[1] = unlimited
	}
	n := &s.Network
	n.ReadCount, n.ReadBytes = r.perSecond(before.Reads, now.Reads), r.perSecond(before.ReadBytes, now.ReadBytes)
	n.WriteCount, n.WriteBytes = r.perSecond(before.Writes, now.Writes), r.perSecond(before.WriteBytes, now.WriteBytes)
	n.DispoolSize, n.DispatcherGo, n.DispoolCap = now.Waiting, now.Waiting, now.WaitingMax
	n.Connections = now.Connections
	return s
}

// newBinds gives every group that it lists a limiter.
func newBinds(before, now Counters, elapsed time.Duration) binds {
	r := rates{elapsed}
	b := binds{Groups: map[string][]string{}, Limiters: map[string]map[string][2]int64{}}
	for _, topic := range now.Topics {
		b.Groups[topic], b.Limiters[topic] = []string{}, map[string][2]int64{}
	}
	earlier := byKey(before.Flows)
	for _, f := range now.Flows {
		if b.Limiters[f.Topic] == nil {
			b.Limiters[f.Topic] = map[string][2]int64{}
		}
		b.Groups[f.Topic] = append(b.Groups[f.Topic], f.Group)
		b.Limiters[f.Topic][f.Group] = [2]int64{r.perSecond(earlier[f.key()].Acquired, f.Acquired), int64(f.Limit)}
	}
	for _, groups := range b.Groups {
		slices.Sort(groups)
	}
	return b
}

func (f *Flow) key() [2]string { return [2]string{f.Topic, f.Group} }

func byKey(flows []Flow) map[[2]string]Flow {
	all := make(map[[2]string]Flow, len(flows))
	for _, f := range flows {
		all[f.key()] = f
	}
	return all
}
