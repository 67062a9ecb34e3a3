package operate

// MaxPage is the most entries that one answer lists; DefaultPage is how many there are when nobody says.
const (
	MaxPage     = 1000
	DefaultPage = 100
)

// Filter says which entries of a list are wanted. What is empty allows everything.
type Filter struct {
	Topic, Group string
	// State is of transactions: open or parked.
	State string
	// After is the Next of the page before.
	After string
	// Limit is at most how many, 1 to MaxPage.
	Limit int
}

// Note says who does something, and why. It is the body of every POST.
type Note struct {
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Log is what the log shows, and the body of the PUT that changes it.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `json:"level"`
	By    string `json:"by,omitempty"` // only in the body
}

// Seek is the body of a seek. One of Seq and Time says where the group goes on.
type Seek struct {
	Note
	// Seq is the next message that the group gets.
	Seq uint64 `json:"seq,omitempty"`
	// Time is RFC 3339 or Unix milliseconds: the first message stored then or later is the next.
	Time string `json:"time,omitempty"`
}

// Error is the body of every answer that is not 200.
type Error struct {
	Error string `json:"error"`
}

// The states of a transaction.
const (
	Open       = "open"
	Parked     = "parked"
	Committed  = "committed"
	RolledBack = "rolled back"
)

// Transaction is one message that was prepared.
type Transaction struct {
	ID         string `json:"id"`
	Topic      string `json:"topic"`
	Group      string `json:"group,omitempty"` // the publisher's
	State      string `json:"state"`
	PreparedMs int64  `json:"prepared_ms,omitempty"` // Unix ms
	DecidedMs  int64  `json:"decided_ms,omitempty"`  // Unix ms; of a parked one when it was parked
	By         string `json:"by,omitempty"`          // who decided or parked it
	Reason     string `json:"reason,omitempty"`
	Seq        uint64 `json:"seq,omitempty"` // of a committed one

	// What the broker has seen since its start, of an undecided one.
	Checks     int    `json:"checks,omitempty"`
	Asked      string `json:"asked,omitempty"`
	AskedMs    int64  `json:"asked_ms,omitempty"`
	Answered   string `json:"answered,omitempty"` // who answered a check without deciding
	AnsweredMs int64  `json:"answered_ms,omitempty"`
	NextMs     int64  `json:"next_ms,omitempty"` // the next check, or the rollback of a parked one

	// Repeat is true when an order found done what it wanted.
	Repeat bool `json:"repeat,omitempty"`
}

// Transactions is a page of undecided ones, the oldest first, and counts of all.
type Transactions struct {
	Transactions []Transaction `json:"transactions"`
	// Next is the After of the page that follows, "" at the end.
	Next string `json:"next,omitempty"`

	Open       int   `json:"open"`
	Parked     int   `json:"parked"`
	OldestMs   int64 `json:"oldest_ms,omitempty"` // when the oldest of both was prepared, Unix ms
	ChecksSent int64 `json:"checks_sent"`         // since the start, to webhooks too
	Conflicts  int64 `json:"conflicts"`           // decisions refused since the start

	WebhookChecks   int64 `json:"webhook_checks"`   // checks sent to webhooks since the start
	WebhookFailures int64 `json:"webhook_failures"` // requests to them that brought no answer, or none that could be used
}

// The states of a delayed message.
const (
	Waits     = "waits"
	Cancelled = "cancelled"
)

// Postponed is a message that is decided and waits for its time.
type Postponed struct {
	ID        string `json:"id"`
	Topic     string `json:"topic"`
	Type      string `json:"type"`
	Group     string `json:"group"` // the publisher's
	State     string `json:"state"`
	DueMs     int64  `json:"due_ms"`               // Unix ms
	DecidedMs int64  `json:"decided_ms"`           // when it was stored, or its transaction committed, Unix ms
	ExpiresMs int64  `json:"expires_ms,omitempty"` // Unix ms

	// Of a cancelled one.
	CancelledMs int64  `json:"cancelled_ms,omitempty"` // Unix ms
	By          string `json:"by,omitempty"`
	Reason      string `json:"reason,omitempty"`

	// Repeat is true when an order found done what it wanted.
	Repeat bool `json:"repeat,omitempty"`
}

// Delays is a page of messages that wait, by the minute in which they are due and in the order in which they came
// there, and counts of all.
type Delays struct {
	Delayed []Postponed `json:"delayed"`
	// Next is the After of the page that follows, "" at the end. A page may have less than it could.
	Next string `json:"next,omitempty"`

	Waiting  int64 `json:"waiting"`
	InMemory int   `json:"in_memory"` // of them, those that are due within two minutes
	Minutes  int   `json:"minutes"`   // in which others wait
}

// Group is one topic on its way to one consumer group.
type Group struct {
	Topic   string   `json:"topic"`
	Group   string   `json:"group"`
	Bound   bool     `json:"bound"` // false: its bindings are gone
	Durable bool     `json:"durable"`
	Members []string `json:"members"` // ip:port
	Next    uint64   `json:"next"`    // the lowest Seq that is not settled
	Head    uint64   `json:"head"`    // the topic's newest Seq
	Lag     int64    `json:"lag"`     // messages that the group has not come to
	// Unsettled is how many messages are not settled: those, and what is in flight or armed.
	Unsettled   int64 `json:"unsettled"`
	OldestMs    int64 `json:"oldest_ms,omitempty"`  // when the oldest of them was stored, Unix ms
	InFlight    int   `json:"in_flight"`            // sent and not answered
	Armed       int   `json:"armed"`                // to be sent again
	BreakerOpen bool  `json:"breaker_open"`         // all failed: only probes are sent
	OfflineMs   int64 `json:"offline_ms,omitempty"` // since when nobody of the group is connected, Unix ms
	Dead        int64 `json:"dead"`                 // dead letters that nobody has discarded
	Paused      bool  `json:"paused"`
	Delivered   int64 `json:"delivered"` // every attempt, fly messages too, since the start of the broker
	// Repeat is true when an order found done what it wanted.
	Repeat bool `json:"repeat,omitempty"`
}

// Groups is the answer of GET /groups.
type Groups struct {
	Groups []Group `json:"groups"`
	// Bad are bindings that were left out because they cannot be understood.
	Bad []BadBinding `json:"bad,omitempty"`
}

// BadBinding is one that is left out, such as a pattern that does not compile.
type BadBinding struct {
	Topic string `json:"topic"`
	Group string `json:"group"`
	Error string `json:"error"`
}

// Letter is a dead letter. N is its place among those of its topic and group.
type Letter struct {
	N           uint64 `json:"n"`
	Topic       string `json:"topic"`
	Group       string `json:"group"`
	ID          string `json:"id"`
	Type        string `json:"type"`
	Seq         uint64 `json:"seq"` // of the message, in its topic
	Attempts    int    `json:"attempts"`
	Reason      string `json:"reason"`
	Feedback    string `json:"feedback,omitempty"`
	PublishedMs int64  `json:"published_ms,omitempty"` // Unix ms
	DiedMs      int64  `json:"died_ms"`                // Unix ms
	State       string `json:"state"`                  // dead, requeued or discarded

	// Header and Body are the message's, where one letter or an export is asked for.
	Header *Header `json:"header,omitempty"`
	Body   []byte  `json:"body,omitempty"` // base64
}

// The states of a dead letter.
const (
	Dead      = "dead"
	Requeued  = "requeued"
	Discarded = "discarded"
)

// Header is what the publisher said about a message.
type Header struct {
	Group      string            `json:"group"` // the publisher's
	CreatedS   int64             `json:"created_s,omitempty"`
	ExpiresS   int64             `json:"expires_s,omitempty"`
	Limit      int               `json:"deliver_limit"`
	Text       bool              `json:"text"`   // it came as a string
	Snappy     bool              `json:"snappy"` // the body is compressed
	Properties map[string]string `json:"properties,omitempty"`
}

// Letters is a page of dead letters, the oldest first.
type Letters struct {
	Letters []Letter `json:"letters"`
	Next    string   `json:"next,omitempty"`
}

// Broker is one that serves topics.
type Broker struct {
	Address string `json:"address"` // ip:port, what clients dial
	Self    bool   `json:"self,omitempty"`
	// Hosts names the broker that is gone and whose journal it serves, inside this one's process.
	Hosts  string `json:"hosts,omitempty"`
	Topics int    `json:"topics"` // how many it serves of those that are served here
}

// Brokers are this broker, those that it hosts, and the others by address.
type Brokers struct {
	Brokers []Broker `json:"brokers"`
}
