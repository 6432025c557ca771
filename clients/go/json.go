package herocoordinator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// List is a list; nil is written as an empty one, as the API takes no null for it.
type List[T any] []T

// MarshalJSON writes it as JSON.
func (list List[T]) MarshalJSON() ([]byte, error) {
	if list == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]T(list))
}

// Map is a map; nil is written as an empty one.
type Map[K ~string, V any] map[K]V

// MarshalJSON writes it as JSON.
func (entries Map[K, V]) MarshalJSON() ([]byte, error) {
	if entries == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(map[K]V(entries))
}

// Ptr is a pointer to a value, for optional members.
func Ptr[T any](value T) *T {
	return &value
}

func decoded[T any](params json.RawMessage) (any, error) {
	value := new(T)
	err := json.Unmarshal(params, value)
	return value, err
}

// RPCError is an error a call was answered with; the type of each code has it inside, as NotFoundError. Get at that
// with errors.As.
type RPCError struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	RawData json.RawMessage `json:"data,omitempty"`
}

func (e RPCError) Error() string {
	if detail := e.Detail(); detail != "" {
		return fmt.Sprintf("%s (%d): %s", e.Message, e.Code, detail)
	}
	return fmt.Sprintf("%s (%d)", e.Message, e.Code)
}

// Detail is the data in words; empty if there is none.
func (e RPCError) Detail() string {
	var object struct {
		Detail string `json:"detail"`
	}
	if json.Unmarshal(e.RawData, &object) == nil && object.Detail != "" {
		return object.Detail
	}
	var faults []struct {
		Loc []any  `json:"loc"`
		Msg string `json:"msg"`
	}
	if json.Unmarshal(e.RawData, &faults) != nil {
		return ""
	}
	words := make([]string, len(faults))
	for i, fault := range faults {
		place := strings.Trim(strings.ReplaceAll(fmt.Sprint(fault.Loc...), " ", "."), ".")
		words[i] = strings.TrimPrefix(place+": "+fault.Msg, ": ")
	}
	return strings.Join(words, "; ")
}

type request struct {
	JSONRPC string `json:"jsonrpc"`
	ID      uint64 `json:"id"`
	Method  string `json:"method"`
	Params  any    `json:"params"`
}

type reply struct {
	ID     *uint64         `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *RPCError       `json:"error"`
}

func (r reply) into(result any) error {
	if r.Error != nil {
		return typed(*r.Error)
	}
	return json.Unmarshal(r.Result, result)
}

func replies(text []byte) ([]reply, error) {
	text = bytes.TrimSpace(text)
	if len(text) > 0 && text[0] == '[' {
		var many []reply
		err := json.Unmarshal(text, &many)
		return many, err
	}
	var one reply
	err := json.Unmarshal(text, &one)
	return []reply{one}, err
}
