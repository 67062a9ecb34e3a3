package operate

// Peek says which messages of a topic are wanted. With neither From nor Time it is the newest Limit ones.
type Peek struct {
	// From is the lowest sequence number.
	From uint64
	// Time is RFC 3339 or Unix milliseconds: what was stored then or later.
	Time string
	// Limit is at most how many, 1 to MaxPage.
	Limit int
}

// Message is one that the journal has in its topic: it is read, and nobody's place moves by it.
type Message struct {
	Seq       uint64 `json:"seq"`
	ID        string `json:"id"`
	Type      string `json:"type"`
	StoredMs  int64  `json:"stored_ms"`            // when it got its Seq, Unix ms
	ExpiresMs int64  `json:"expires_ms,omitempty"` // Unix ms
	// Header is absent when the message cannot be understood; then Body is all of it.
	Header *Header `json:"header,omitempty"`
	Body   []byte  `json:"body"` // base64; compressed if the header says so
}

// Messages is a page of a topic, in its order.
type Messages struct {
	Topic    string    `json:"topic"`
	Messages []Message `json:"messages"`
	// Next is the From of the page that follows, 0 at the end. A page may have less than it could.
	Next uint64 `json:"next,omitempty"`
	// First and Head are the oldest and the newest Seq that are kept; First is above Head when there is none.
	First uint64 `json:"first"`
	Head  uint64 `json:"head"`
}
