package kite

// MaxProperties is how many properties a header may have to be read at all: one of 2 MiB could have 300000, which
// takes some 50 ms.
const MaxProperties = 4096

// Limits bound what clients may put into a message and a binding.
type Limits struct {
	// Properties is how many properties a message may have. Default 1024, 1 to MaxProperties.
	Properties int `toml:"properties"`
	// PropertyBytes bounds the keys and values of all of them together. Default 256 KiB, at least 1 KiB.
	PropertyBytes ByteSize `toml:"property_bytes"`
	// PatternBytes is the longest pattern of a binding. Default 1 KiB, which is the most, at least 1 B.
	PatternBytes ByteSize `toml:"pattern_bytes"`
}

// WithDefaults returns the limits with the default in place of every zero.
func (l Limits) WithDefaults() Limits {
	if l.Properties == 0 {
		l.Properties = 1024
	}
	if l.PropertyBytes == 0 {
		l.PropertyBytes = 256 << 10
	}
	if l.PatternBytes == 0 {
		l.PatternBytes = maxPattern
	}
	return l
}

// Validate returns every problem, joined.
func (l Limits) Validate() error {
	var problems Problems
	problems.Check(l.Properties >= 1 && l.Properties <= MaxProperties, "properties %d: use 1 to %d", l.Properties, MaxProperties)
	problems.Check(l.PropertyBytes >= 1<<10, "property bytes %v: use 1KiB or more", l.PropertyBytes)
	problems.Check(l.PatternBytes >= 1 && l.PatternBytes <= maxPattern, "pattern bytes %v: use 1B to 1KiB", l.PatternBytes)
	return problems.Err()
}

// CheckPattern returns an error when the binding has a pattern that is too long.
func (l Limits) CheckPattern(b Binding) error {
	if b.Type == BindRegx && len(b.MessageType) > int(l.PatternBytes) {
		return Errorf(Invalid, "binding of group %s to topic %s: a pattern of %d bytes, at most %d are allowed", b.Group, b.Topic, len(b.MessageType), int(l.PatternBytes))
	}
	return nil
}
