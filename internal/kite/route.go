package kite

import "slices"

// Route is one group's binding to one topic, as the exchange compiled it: never changed afterwards.
type Route struct {
	Topic    string
	Group    string
	Bindings []Binding
	// SinceMs is when the group was first bound, Unix ms.
	SinceMs int64
}

// Durable tells whether the group gets what was published while nobody of it was connected.
func (r *Route) Durable() bool {
	return slices.ContainsFunc(r.Bindings, func(b Binding) bool { return b.Durable })
}

// Watermark is how many deliveries a second the group takes: its first binding's; 0 or less means
// the broker's default.
func (r *Route) Watermark() int32 {
	if len(r.Bindings) == 0 {
		return 0
	}
	return r.Bindings[0].Watermark
}

// Order returns which messages wait for which, and the property that holds the key, as the first binding says.
func (r *Route) Order() (by Ordering, property string) {
	if len(r.Bindings) == 0 {
		return OrderNone, ""
	}
	b := r.Bindings[0]
	if b.Order == OrderByKey && b.OrderKey == "" {
		return b.Order, DefaultOrderKey
	}
	return b.Order, b.OrderKey
}

// Broadcast tells whether every member gets each message, as the first binding says.
func (r *Route) Broadcast() bool { return len(r.Bindings) > 0 && r.Bindings[0].Broadcast }

// Equal tells whether both routes deliver the same.
func (r *Route) Equal(other *Route) bool {
	return r.Topic == other.Topic && r.Group == other.Group && r.SinceMs == other.SinceMs && slices.Equal(r.Bindings, other.Bindings)
}
