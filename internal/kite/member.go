package kite

// Member is a live connection of a group. Two are the same when they are equal.
type Member interface {
	// Release gives back the credit that one delivery took.
	Release()
}

// Ack is a member's answer to a delivery.
type Ack struct {
	Member   Member
	Opaque   uint32
	OK       bool
	Feedback string // why not
}
