package compat

import (
	"errors"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/compat/protocol"
)

// published returns the message to publish, which shares its body with q.
func published(q *protocol.QMessage) (*client.Message, error) {
	if q == nil || q.GetHeader() == nil {
		return nil, &client.Error{Code: client.Invalid, Op: "send", Err: errors.New("the message or its header is nil")}
	}
	h := q.GetHeader()
	m := &client.Message{
		ID: h.GetMessageId(), Topic: h.GetTopic(), Type: h.GetMessageType(), Compress: h.GetSnappy(), Fly: h.GetFly(),
	}
	if m.ID == "" {
		m.ID = MessageId()
	}
	switch body := q.GetBody().(type) {
	case string:
		m.Body, m.Text = []byte(body), true
	case []byte:
		m.Body = body
	}
	for _, e := range h.GetProperties() {
		if m.Properties == nil {
			m.Properties = map[string]string{}
		}
		m.Properties[e.GetKey()] = e.GetValue()
	}
	if l := int(h.GetDeliverLimit()); l > 0 && l <= client.MaxDeliverLimit { // brokers put others right, too
		m.DeliverLimit = l
	}
	if e := h.GetExpiredTime(); e > 0 {
		m.Expires = time.Unix(e, 0)
	}
	if c := h.GetCreateTime(); c > 0 {
		m.Created = time.Unix(c, 0)
	}
	return m, nil
}

// received returns a delivery as listeners get it.
func received(d *client.Delivery) *protocol.QMessage {
	h := header(d.ID, d.Topic, d.Type, d.Group, d.Properties)
	h.Commit, h.Fly, h.Snappy = new(true), &d.Fly, &d.Snappy
	h.DeliverLimit = protocol.MarshalPbInt32(int32(d.DeliverLimit))
	h.ExpiredTime, h.CreateTime = seconds(d.Expires), seconds(d.Created)
	return wrapped(h, d.Body, d.Text)
}

// prepared returns the message that a local transaction is about.
func prepared(m *client.Message, group string) *protocol.QMessage {
	h := header(m.ID, m.Topic, m.Type, group, m.Properties)
	h.Commit, h.Fly, h.Snappy = new(false), new(false), &m.Compress
	limit := m.DeliverLimit
	if limit == 0 {
		limit = client.MaxDeliverLimit
	}
	h.DeliverLimit = protocol.MarshalPbInt32(int32(limit))
	h.ExpiredTime, h.CreateTime = seconds(m.Expires), seconds(m.Created)
	return wrapped(h, m.Body, m.Text)
}

func header(id, topic, messageType, group string, properties map[string]string) *protocol.Header {
	h := &protocol.Header{MessageId: &id, Topic: &topic, MessageType: &messageType, GroupId: &group}
	for key, value := range properties {
		h.Properties = append(h.Properties, &protocol.Entry{Key: &key, Value: &value})
	}
	return h
}

func wrapped(h *protocol.Header, body []byte, text bool) *protocol.QMessage {
	if text {
		return protocol.NewQMessage(&protocol.StringMessage{Header: h, Body: protocol.MarshalPbString(string(body))})
	}
	return protocol.NewQMessage(&protocol.BytesMessage{Header: h, Body: body})
}

// seconds returns the time as headers have it, -1 for none.
func seconds(t time.Time) *int64 {
	if t.IsZero() {
		return protocol.MarshalPbInt64(-1)
	}
	return protocol.MarshalPbInt64(t.Unix())
}
