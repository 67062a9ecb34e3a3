package kite

// Member is a live connection of a group. Two are the same when they are equal.
type Member interface {
	// Release says that a delivery was answered, and gives back its credit unless that was forgiven.
	Release(forgiven bool)
	// Late says that a delivery was not answered in time. Its credit stays taken: the member may
	// still be at it. A member that goes on like this gets less.
	Late()
	// Forgive gives back the credit of a delivery that was late for long. It returns false when the
	// member holds too many of them: one that only lost an answer must not starve, and one that is
	// stuck must not be buried.
	Forgive() bool
}

// Ack is a member's answer to a delivery.
type Ack struct {
	Member   Member
	Opaque   uint32
	OK       bool
	Feedback string // why not
}
