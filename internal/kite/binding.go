package kite

import (
	"errors"
	"fmt"
	"regexp"
)

// BindType says how a binding's MessageType is compared. Values are those of the binding znodes.
type BindType int

// The binding types.
const (
	BindDirect BindType = 0 // equal
	BindRegx   BindType = 1 // an RE2 pattern, found anywhere in the type
	BindFanout BindType = 2 // every type
)

func (t BindType) String() string {
	switch t {
	case BindDirect:
		return "direct"
	case BindRegx:
		return "regx"
	case BindFanout:
		return "fanout"
	}
	return fmt.Sprintf("bindType %d", int(t))
}

// Binding is one subscription of a consumer group; its JSON form is an element of a binding znode.
type Binding struct {
	Group       string   `json:"groupId"`
	Topic       string   `json:"topic"`
	MessageType string   `json:"messageType"`
	Type        BindType `json:"bindType"`
	Version     string   `json:"version"`
	// Watermark is how many deliveries a second the group takes; 0 or less means the broker's default.
	Watermark int32 `json:"watermark"`
	// Durable groups get what was published while nobody of them was connected.
	Durable bool `json:"persistent"`
}

// BindingVersion is the value of Version in every binding.
const BindingVersion = "1.0.0"

// Direct binds group to one messageType of topic.
func Direct(group, topic, messageType string) Binding {
	return Binding{Group: group, Topic: topic, MessageType: messageType, Type: BindDirect, Version: BindingVersion, Durable: true}
}

// Regx binds group to the messageTypes of topic in which the RE2 pattern is found.
func Regx(group, topic, pattern string) Binding {
	return Binding{Group: group, Topic: topic, MessageType: pattern, Type: BindRegx, Version: BindingVersion, Durable: true}
}

// Fanout binds group to every messageType of topic.
func Fanout(group, topic string) Binding {
	return Binding{Group: group, Topic: topic, MessageType: "*", Type: BindFanout, Version: BindingVersion, Durable: true}
}

// Validate returns an error that names the bad value and what is allowed, or nil.
func (b Binding) Validate() error {
	if err := CheckGroup(b.Group); err != nil {
		return err
	}
	if err := CheckTopic(b.Topic); err != nil {
		return err
	}
	switch b.Type {
	case BindDirect, BindFanout:
		return nil
	case BindRegx:
		if len(b.MessageType) > maxPattern {
			return Errorf(Invalid, "binding of group %s to topic %s: a pattern of %d bytes, at most %d are allowed", b.Group, b.Topic, len(b.MessageType), maxPattern)
		}
		if _, err := regexp.Compile(b.MessageType); err != nil {
			return Errorf(Invalid, "binding of group %s to topic %s: pattern %q is no RE2 expression: %w", b.Group, b.Topic, b.MessageType, err)
		}
		return nil
	}
	return Errorf(Invalid, "binding of group %s to topic %s: bindType %d is not 0 (direct), 1 (regx) or 2 (fanout)", b.Group, b.Topic, int(b.Type))
}

const (
	maxPattern = 1024
	maxCached  = 1024
)

// Matcher decides whether a group wants a messageType. It remembers its answers, so one goroutine
// at a time may use it.
type Matcher struct {
	all      bool
	types    map[string]struct{}
	patterns []*regexp.Regexp
	answers  map[string]bool // of the patterns; emptied at maxCached
}

// NewMatcher compiles the bindings of one group on one topic. A binding that does not validate is
// left out and named in the error; the Matcher serves the others.
func NewMatcher(bindings []Binding) (*Matcher, error) {
	m := &Matcher{types: map[string]struct{}{}, answers: map[string]bool{}}
	var bad []error
	for _, b := range bindings {
		if err := b.Validate(); err != nil {
			bad = append(bad, err)
			continue
		}
		switch b.Type {
		case BindFanout:
			m.all = true
		case BindDirect:
			m.types[b.MessageType] = struct{}{}
		case BindRegx:
			m.patterns = append(m.patterns, regexp.MustCompile(b.MessageType))
		}
	}
	return m, errors.Join(bad...)
}

// Matches tells whether one of the bindings takes the messageType.
func (m *Matcher) Matches(messageType []byte) bool {
	if m.all {
		return true
	}
	if _, ok := m.types[string(messageType)]; ok {
		return true
	}
	if len(m.patterns) == 0 {
		return false
	}
	if answer, ok := m.answers[string(messageType)]; ok {
		return answer
	}
	answer := false
	for _, p := range m.patterns {
		if p.Match(messageType) {
			answer = true
			break
		}
	}
	if len(m.answers) >= maxCached {
		clear(m.answers)
	}
	m.answers[string(messageType)] = answer
	return answer
}
