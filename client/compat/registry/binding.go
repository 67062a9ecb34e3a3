package registry

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// BindType says how a binding's MessageType is compared.
type BindType int

// The binding types, with the values of the binding znodes.
const (
	BIND_DIRECT BindType = 0 // equal
	BIND_REGX   BindType = 1 // an RE2 pattern, found anywhere in the type
	BIND_FANOUT BindType = 2 // every type
)

// TypeOfBind reads "direct", "regx" or "fanout", in any case. Anything else is direct.
func TypeOfBind(name string) BindType {
	switch strings.ToLower(name) {
	case "regx":
		return BIND_REGX
	case "fanout":
		return BIND_FANOUT
	}
	return BIND_DIRECT
}

// Handler handles one message; body is a string or a []byte. false, an error and a panic each refuse
// it, and the broker delivers it again.
type Handler = func(body interface{}) (bool, error)

// Binding binds a group to message types of a topic. Its JSON form is an element of a binding znode.
type Binding struct {
	GroupId     string   `json:"groupId"`
	Topic       string   `json:"topic"`
	MessageType string   `json:"messageType"`
	BindType    BindType `json:"bindType"`
	Version     string   `json:"version"`
	// Watermark is how many deliveries a second the group takes; 0 or less means the broker's default.
	Watermark int32 `json:"watermark"`
	// Persistent groups get what was published while nobody of them was connected.
	Persistent bool    `json:"persistent"`
	Handler    Handler `json:"-"`
}

// version is that of every binding.
const version = "1.0.0"

// Bind_Direct binds the group to one message type.
func Bind_Direct(groupId, topic, messageType string, watermark int32, persistent bool) *Binding {
	return bind(groupId, topic, messageType, BIND_DIRECT, watermark, persistent)
}

// Bind_Regx binds the group to the message types in which the pattern is found. A pattern that does not
// compile matches nothing, and Start of package compat returns an error.
func Bind_Regx(groupId, topic, messageType string, watermark int32, persistent bool) *Binding {
	return bind(groupId, topic, messageType, BIND_REGX, watermark, persistent)
}

// Bind_Fanout binds the group to every message type of the topic.
func Bind_Fanout(groupId, topic string, watermark int32, persistent bool) *Binding {
	return bind(groupId, topic, "*", BIND_FANOUT, watermark, persistent)
}

func bind(groupId, topic, messageType string, of BindType, watermark int32, persistent bool) *Binding {
	return &Binding{
		GroupId: groupId, Topic: topic, MessageType: messageType, BindType: of, Version: version,
		Watermark: watermark, Persistent: persistent,
	}
}

// WithHandler sets the handler and returns the binding.
func (b *Binding) WithHandler(handler Handler) *Binding {
	b.Handler = handler
	return b
}

// Matches tells whether the binding takes messages of the topic and type. The original's looked at the
// topic of direct bindings only.
func (b *Binding) Matches(topic, messageType string) bool {
	if b.Topic != topic {
		return false
	}
	switch b.BindType {
	case BIND_DIRECT:
		return b.MessageType == messageType
	case BIND_REGX:
		matched, err := regexp.MatchString(b.MessageType, messageType)
		return err == nil && matched
	case BIND_FANOUT:
		return true
	}
	return false
}

// MarshalBinds returns the data of a binding znode.
func MarshalBinds(bindings []*Binding) ([]byte, error) {
	if bindings == nil {
		bindings = []*Binding{} // none are "[]", not "null"
	}
	data, err := json.Marshal(bindings)
	if err != nil {
		return nil, fmt.Errorf("encode %d bindings: %w", len(bindings), err)
	}
	return data, nil
}

// UmarshalBinds reads the data of a binding znode. None at all are no bindings, and null is none.
func UmarshalBinds(data []byte) ([]*Binding, error) {
	if len(data) == 0 {
		return nil, nil
	}
	var bindings []*Binding
	if err := json.Unmarshal(data, &bindings); err != nil {
		return nil, fmt.Errorf("decode bindings %.64q: %w", data, err)
	}
	return slices.DeleteFunc(bindings, func(b *Binding) bool { return b == nil }), nil
}
