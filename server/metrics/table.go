package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kiteq/kiteq/internal/kite"
)

// The kinds of values.
const (
	gauge = prometheus.GaugeValue
	count = prometheus.CounterValue
)

// row is one metric of what T describes. doc/metrics.md lists them for operators, and a test compares the two.
type row[T any] struct {
	name  string
	kind  prometheus.ValueType
	help  string
	value func(s *Snapshot, of *T) float64
}

// singles are the metrics of the broker as a whole.
var singles = []row[Snapshot]{
	{"kiteq_broker_ready", gauge, "1 while the broker serves: what /readyz says.", func(s, _ *Snapshot) float64 { return truth(s.Ready) }},
	{"kiteq_registry_ready", gauge, "1 while the broker hears its registry.", func(s, _ *Snapshot) float64 { return truth(s.RegistryReady) }},
	{"kiteq_journal_poisoned", gauge, "1 when a write or sync of the journal failed: nothing is stored until a restart.", func(s, _ *Snapshot) float64 { return truth(s.Poisoned) }},

	{"kiteq_publish_accepted_total", count, "Publishes that the accept limit let through.", func(s, _ *Snapshot) float64 { return float64(s.Accepted) }},

	{"kiteq_lane_waiting_requests", gauge, "Requests that wait for the lane.", func(s, _ *Snapshot) float64 { return float64(s.Waiting) }},
	{"kiteq_lane_waiting_limit_requests", gauge, "Requests that may wait for the lane: lane.inbox_items.", func(s, _ *Snapshot) float64 { return float64(s.WaitingMax) }},
	{"kiteq_lane_waiting_bytes", gauge, "Payload of the requests that wait for the lane.", func(s, _ *Snapshot) float64 { return float64(s.WaitingBytes) }},
	{"kiteq_lane_waiting_limit_bytes", gauge, "Payload that may wait for the lane: lane.inbox_bytes.", func(s, _ *Snapshot) float64 { return float64(s.WaitingBytesMax) }},
	{"kiteq_lane_busy_seconds_total", count, "Time that the lane has worked: its rate is the busy fraction.", func(s, _ *Snapshot) float64 { return s.Busy.Seconds() }},

	{"kiteq_tx_open", gauge, "Undecided transactions that are asked about.", func(s, _ *Snapshot) float64 { return float64(s.Open) }},
	{"kiteq_tx_parked", gauge, "Undecided transactions that wait for an operator.", func(s, _ *Snapshot) float64 { return float64(s.Parked) }},
	{"kiteq_tx_oldest_seconds", gauge, "Age of the oldest undecided transaction, 0 without one.", func(s, _ *Snapshot) float64 { return s.age(s.OldestTx) }},
	{"kiteq_tx_checks_total", count, "Checks that were sent.", func(s, _ *Snapshot) float64 { return float64(s.Checks) }},
	{"kiteq_tx_conflicts_total", count, "Decisions that were refused because the opposite stands.", func(s, _ *Snapshot) float64 { return float64(s.Conflicts) }},
	{"kiteq_webhook_checks_total", count, "Requests to webhooks.", func(s, _ *Snapshot) float64 { return float64(s.HookChecks) }},
	{"kiteq_webhook_failures_total", count, "Requests to webhooks without an answer that could be used.", func(s, _ *Snapshot) float64 { return float64(s.HookFailures) }},

	{"kiteq_delay_waiting_messages", gauge, "Messages that wait for their time.", func(s, _ *Snapshot) float64 { return float64(s.Delayed) }},
	{"kiteq_delay_near_messages", gauge, "Those of them that are in memory.", func(s, _ *Snapshot) float64 { return float64(s.DelayedNear) }},
	{"kiteq_fly_dropped_total", count, "Fly messages that nobody could take, once for each group.", func(s, _ *Snapshot) float64 { return float64(s.FlyDropped) }},
	{"kiteq_bindings_bad_total", count, "Bindings that were left out because they could not be understood.", func(s, _ *Snapshot) float64 { return float64(s.BadBindings) }},

	{"kiteq_publish_held", gauge, "1 while publishes are refused for want of disk or memory.", func(s, _ *Snapshot) float64 { return truth(s.Held) }},
	{"kiteq_disk_free_bytes", gauge, "Free space of the journal's file system, 0 when it is on none.", func(s, _ *Snapshot) float64 { return float64(s.DiskFree) }},
	{"kiteq_disk_low_bytes", gauge, "Free space below which publishes are refused.", func(s, _ *Snapshot) float64 { return float64(s.DiskLow) }},
	{"kiteq_memory_bytes", gauge, "Memory that the process has, mapped files aside.", func(s, _ *Snapshot) float64 { return float64(s.Memory) }},
	{"kiteq_memory_high_bytes", gauge, "Memory above which publishes are refused, 0 without a bound.", func(s, _ *Snapshot) float64 { return float64(s.MemoryHigh) }},

	{"kiteq_sessions", gauge, "Open connections of clients.", func(s, _ *Snapshot) float64 { return float64(s.Connections) }},
	{"kiteq_sessions_limit", gauge, "Connections that may be open: network.max_connections.", func(s, _ *Snapshot) float64 { return float64(s.ConnectionsMax) }},
	{"kiteq_sessions_refused_total", count, "Connections over network.max_connections or max_connections_per_address.", func(s, _ *Snapshot) float64 { return float64(s.ConnectionsRefused) }},
	{"kiteq_tls_handshakes_failed_total", count, "Connections with which TLS failed.", func(s, _ *Snapshot) float64 { return float64(s.Handshakes) }},
	{"kiteq_network_reads_total", count, "Reads from sockets, of any number of frames.", func(s, _ *Snapshot) float64 { return float64(s.Reads) }},
	{"kiteq_network_read_bytes_total", count, "Bytes read from sockets.", func(s, _ *Snapshot) float64 { return float64(s.ReadBytes) }},
	{"kiteq_network_writes_total", count, "Writes to sockets, of any number of frames.", func(s, _ *Snapshot) float64 { return float64(s.Writes) }},
	{"kiteq_network_write_bytes_total", count, "Bytes written to sockets.", func(s, _ *Snapshot) float64 { return float64(s.WriteBytes) }},

	{"kiteq_network_partial_bytes", gauge, "Bytes of frames that are not whole, bounded by network.inbound_bytes.", func(s, _ *Snapshot) float64 { return float64(s.PartialBytes) }},
	{"kiteq_keys_refused_total", count, "Keys of groups and operators that were wrong.", func(s, _ *Snapshot) float64 { return float64(s.KeysRefused) }},
	{"kiteq_keys_held_total", count, "Keys that were not looked at: their address has to wait, or too many do.", func(s, _ *Snapshot) float64 { return float64(s.KeysHeld) }},
	{"kiteq_keys_waiting", gauge, "Keys that wait to be looked at.", func(s, _ *Snapshot) float64 { return float64(s.KeysWaiting) }},
}

// ofTopics have the label topic.
var ofTopics = []row[Topic]{
	{"kiteq_publish_received_total", count, "Publishes to the topic that the accept limit let through.", func(_ *Snapshot, t *Topic) float64 { return float64(t.Received) }},
	{"kiteq_topic_messages_total", count, "Messages that the topic ever had: its newest sequence number.", func(_ *Snapshot, t *Topic) float64 { return float64(t.Stored) }},
}

// ofFlows have the labels topic and group.
var ofFlows = []row[Flow]{
	{"kiteq_deliver_attempts_total", count, "Deliveries, every attempt.", func(_ *Snapshot, f *Flow) float64 { return float64(f.Attempts) }},
	{"kiteq_deliver_failed_total", count, "Deliveries that were refused, not answered in time or lost with their connection.", func(_ *Snapshot, f *Flow) float64 { return float64(f.Failed) }},
	{"kiteq_deliver_fly_total", count, "Deliveries of fly messages.", func(_ *Snapshot, f *Flow) float64 { return float64(f.Flown) }},
	{"kiteq_deliver_dead_letters_total", count, "Dead letters that were ever written.", func(_ *Snapshot, f *Flow) float64 { return float64(f.DeadEver) }},
	{"kiteq_deliver_dead_letters", gauge, "Dead letters that nobody has discarded or requeued with success.", func(_ *Snapshot, f *Flow) float64 { return float64(f.Dead) }},
	{"kiteq_deliver_backlog_messages", gauge, "Messages that the group has not settled.", func(_ *Snapshot, f *Flow) float64 { return float64(f.Backlog) }},
	{"kiteq_deliver_lag_messages", gauge, "Those of them that were never sent.", func(_ *Snapshot, f *Flow) float64 { return float64(f.Lag) }},
	{"kiteq_deliver_in_flight_messages", gauge, "Deliveries whose answer is not overdue.", func(_ *Snapshot, f *Flow) float64 { return float64(f.InFlight) }},
	{"kiteq_deliver_armed_messages", gauge, "Messages that failed and wait to be sent again.", func(_ *Snapshot, f *Flow) float64 { return float64(f.Armed) }},
	{"kiteq_deliver_oldest_unsettled_seconds", gauge, "Age of the oldest message that the group has not settled, 0 without one.", func(s *Snapshot, f *Flow) float64 { return s.age(f.OldestMs) }},
	{"kiteq_deliver_offline_seconds", gauge, "For how long nobody of the group has been connected, 0 while somebody is.", func(s *Snapshot, f *Flow) float64 { return s.age(f.OfflineMs) }},
	{"kiteq_deliver_paused", gauge, "1 while an operator holds the deliveries.", func(_ *Snapshot, f *Flow) float64 { return truth(f.Paused) }},
	{"kiteq_deliver_breaker_open", gauge, "1 while every delivery fails and only probes are sent.", func(_ *Snapshot, f *Flow) float64 { return truth(f.BreakerOpen) }},
}

// timing is a histogram of what happens in batches.
type timing struct {
	name, help string
	of         func(s *Snapshot) *kite.Timing
}

var timings = []timing{
	{"kiteq_publish_ack_seconds", "From the read that brought a publish to its answer that it is stored.", func(s *Snapshot) *kite.Timing { return &s.Acked }},
	{"kiteq_deliver_wait_seconds", "From stored to sent for the first time; what a flow read in one go counts as long as the first of it.", func(s *Snapshot) *kite.Timing { return &s.Waited }},
	{"kiteq_journal_append_seconds", "One turn of the lane written to the journal.", func(s *Snapshot) *kite.Timing { return &s.Appended }},
	{"kiteq_journal_sync_seconds", "One turn of the lane synced.", func(s *Snapshot) *kite.Timing { return &s.Synced }},
}

// Metrics that are in no table above.
const (
	buildInfo     = "kiteq_build_info"
	withoutSeries = "kiteq_metrics_names_without_series"
	refused       = "kiteq_publish_refused_total"
	members       = "kiteq_group_members"
	keys          = "kiteq_access_keys_total"
)

// descs has for each name what the library wants to know of it. Making them costs more than an answer.
type descs map[string]*prometheus.Desc

func newDescs() descs {
	all := descs{}
	add := func(name, help string, labels ...string) { all[name] = prometheus.NewDesc(name, help, labels, nil) }
	add(buildInfo, "1, with the broker's version.", "version")
	add(withoutSeries, "Topics, groups and pairs of both that are added up as "+Other+".")
	add(refused, "Publishes that were answered false, by reason.", "reason")
	add(keys, "Keys and tokens that were shown, by what came of it.", "outcome")
	add(members, "Connected clients of the group, consumers or producers.", "group")
	for _, r := range singles {
		add(r.name, r.help)
	}
	for _, r := range ofTopics {
		add(r.name, r.help, "topic")
	}
	for _, r := range ofFlows {
		add(r.name, r.help, "topic", "group")
	}
	for _, t := range timings {
		add(t.name, t.help)
	}
	return all
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// age returns how long ago a time was, Unix ms, in seconds; 0 for none.
func (s *Snapshot) age(ms int64) float64 {
	if ms == 0 {
		return 0
	}
	return max(0, s.At.Sub(time.UnixMilli(ms)).Seconds())
}
