// A plain input, textarea or select; what is typed goes to the server after a pause, on leaving, and on Enter.
export default {
  template: `
    <select v-if="options" class="of-select" :value="typed" @change="choose($event.target.value)">
      <option v-for="o in options" :key="o[0]" :value="o[0]" :disabled="o[2] === true">{{ o[1] }}</option>
    </select>
    <textarea v-else-if="lines" class="of-input" :rows="lines" :value="typed" @input="type" @blur="flush" spellcheck="false"></textarea>
    <input v-else class="of-input" :type="type_" :value="typed" @input="type" @blur="flush" @keydown.enter="enter" :spellcheck="false">`,
  props: { value: [String, Number], options: Array, lines: Number, type_: { type: String, default: "text" }, pause: { type: Number, default: 250 } },
  data() { return { typed: this.value, sent: this.value, timer: null }; },
  watch: { value(now) { if (now !== this.sent) { this.typed = now; } this.sent = now; } },
  methods: {
    type(event) { this.typed = event.target.value; clearTimeout(this.timer); this.timer = setTimeout(() => this.flush(), this.pause); },
    flush() { clearTimeout(this.timer); if (this.typed !== this.sent) this.send(this.typed); },
    choose(value) { this.typed = value; this.send(value); },
    send(text) { this.sent = text; this.$emit("update:value", text); },
    enter() { this.flush(); this.$emit("enter", this.typed); },
  },
};
