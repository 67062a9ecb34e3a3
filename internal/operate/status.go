package operate

// Status is how one broker is.
type Status struct {
	Addr    string `json:"addr"` // that clients dial
	Version string `json:"version"`
	Ready   bool   `json:"ready"`
	// Why has the reasons when it is not ready.
	Why       []string `json:"why,omitempty"`
	StartedMs int64    `json:"started_ms"` // Unix ms
	Topics    []string `json:"topics"`
	Class     string   `json:"class"` // durability of topics that have none of their own
	Hosted    []Hosted `json:"hosted,omitempty"`
	// Drain is absent unless an operator has ordered it.
	Drain *Drain `json:"drain,omitempty"`

	// What a drain waits for.
	Connections int   `json:"connections"`
	InFlight    int   `json:"in_flight"` // deliveries that are unanswered
	Unsettled   int64 `json:"unsettled"` // messages of durable groups that have members here
	Undecided   int   `json:"undecided"` // transactions, open and parked
}

// Hosted is the journal of a broker that is gone, served by a broker of its own in the same process.
type Hosted struct {
	Journal uint32 `json:"journal"`
	Broker  string `json:"broker"` // who began it
	Addr    string `json:"addr"`   // where clients dial it now
}

// Drain is the order of an operator to take the broker out of service.
type Drain struct {
	SinceMs int64  `json:"since_ms"` // Unix ms
	By      string `json:"by"`
	Reason  string `json:"reason,omitempty"`
	// Refusing is true when publishes are refused: before, publishers have time to go elsewhere.
	Refusing bool `json:"refusing"`
}
