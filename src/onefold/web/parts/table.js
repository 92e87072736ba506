// A table whose rows are data. A cell is a text, a number, or an object:
// {t: text, s: secondary text, href, icon, tone, code, mono, name, spin, title, on (a switch), ticks, act, menu, faint}
export default {
  template: `
  <div class="of-scroll" tabindex="0" role="group" :aria-label="caption">
  <table class="of-table" :class="[dense ? 'of-table-' + dense : '', fixed ? 'of-table-fixed' : '']">
    <caption class="of-sr">{{ caption }}</caption>
    <thead><tr>
      <th v-if="selectable" scope="col" class="of-tight">
        <input type="checkbox" class="of-box" aria-label="Select all rows" :checked="all"
          :indeterminate.prop="!all && selected.length > 0" @change="selectAll">
      </th>
      <th v-for="c in columns" :key="c.key" scope="col" :class="{'of-num': c.num, 'of-tight': c.tight, 'of-mono': c.raw}"
        :style="c.width ? {width: c.width} : null"><span :class="{'of-sr': c.hidden}">{{ c.label }}</span></th>
    </tr></thead>
    <tbody>
      <tr v-for="(row, at) in rows" :key="row.id" :tabindex="stop(row, at)" @focus="here = row.id" @keydown.enter.self="open(row, $event)"
        :class="[row.tone ? 'of-' + row.tone : '', row.go ? 'of-go' : '', row.at ? 'of-at' : '', selected.includes(row.id) ? 'of-on' : '']"
        @click="open(row, $event)">
        <td v-if="selectable" class="of-tight"><input type="checkbox" class="of-box" :checked="selected.includes(row.id)" :disabled="row.off"
          :aria-label="'Select row ' + (row.label || row.id)" @change="select(row.id)"></td>
        <td v-for="c in columns" :key="c.key" :class="{'of-num': c.num, 'of-tight': c.tight}" :title="tip(row[c.key])">
          <template v-if="row[c.key] === null || row[c.key] === undefined"></template>
          <template v-else-if="typeof row[c.key] !== 'object'">
            <span :class="{'of-mono': c.mono, 'of-name': c.name, 'of-faint': c.faint}">{{ row[c.key] }}</span>
          </template>
          <template v-else-if="'on' in row[c.key]">
            <button class="of-switch" type="button" role="switch" :aria-checked="String(row[c.key].on)" :disabled="row[c.key].off"
              :aria-label="row[c.key].label" @click.stop="$emit('toggle', {id: row.id, on: !row[c.key].on})"></button>
          </template>
          <template v-else-if="row[c.key].ticks">
            <span class="of-ticks" role="img" :aria-label="row[c.key].label"><i v-for="(k, n) in row[c.key].ticks" :key="n" :class="k"></i></span>
          </template>
          <template v-else-if="row[c.key].act">
            <a v-if="row[c.key].href" class="of-btn of-btn-small" :href="row[c.key].href">{{ row[c.key].act }}</a>
            <button v-else class="of-btn of-btn-small" :class="row[c.key].ghost ? 'of-btn-ghost' : ''" type="button"
              @click.stop="$emit('act', {id: row.id, act: row[c.key].act})">{{ row[c.key].act }}</button>
          </template>
          <template v-else-if="row[c.key].menu">
            <button class="of-btn of-btn-ghost of-btn-icon of-btn-small" type="button" tabindex="0" aria-haspopup="menu" :aria-label="row[c.key].label" @click.stop>
              <i class="of-i of-i-menu" aria-hidden="true"></i>
              <q-menu anchor="bottom right" self="top right" auto-close><div role="menu">
                <button v-for="m in row[c.key].menu" :key="m.key" role="menuitem" type="button" class="of-menu-item" :class="m.bad ? 'of-tone-bad' : ''"
                  @click="$emit('act', {id: row.id, act: m.key})">{{ m.t }}</button>
              </div></q-menu>
            </button>
          </template>
          <div v-else-if="row[c.key].c" class="of-said"><span>{{ row[c.key].t }}</span><span class="of-code">{{ row[c.key].c }}</span></div>
          <template v-else>
            <span :class="[row[c.key].icon || row[c.key].spin ? 'of-state' : '', row[c.key].tone ? 'of-tone-' + row[c.key].tone : '']"><i v-if="row[c.key].icon" class="of-i of-i-14" :class="'of-i-' + row[c.key].icon" aria-hidden="true"></i><i
              v-if="row[c.key].spin" class="of-spin" aria-hidden="true"></i><a v-if="row[c.key].href"
              :href="row[c.key].href" :class="cls(c, row[c.key])">{{ row[c.key].t }}</a><span v-else :class="cls(c, row[c.key])">{{ row[c.key].t }}</span></span>
            <span v-if="row[c.key].s" class="of-sub" :class="{'of-mono': row[c.key].smono}"> {{ row[c.key].s }}</span>
          </template>
        </td>
      </tr>
    </tbody>
  </table>
  </div>`,
  props: { columns: Array, rows: Array, caption: String, dense: String, selectable: Boolean, fixed: Boolean, selected: { type: Array, default: () => [] } },
  data() { return { here: null }; }, // the row that had the focus last
  computed: {
    free() { return this.rows.filter((row) => !row.off); },
    all() { return this.free.length > 0 && this.free.every((row) => this.selected.includes(row.id)); },
  },
  methods: {
    // Of the rows that open without a link one is a stop of the Tab key; arrow keys lead to the others.
    stop(row, at) {
      if (row.go !== true) return null;
      const there = this.rows.some((one) => one.id === this.here);
      return (there ? row.id === this.here : at === 0) ? 0 : -1;
    },
    cls(c, cell) {
      return { "of-mono": c.mono || cell.mono, "of-name": c.name || cell.name, "of-code": cell.code, "of-code-bad": cell.code && cell.tone === "bad", "of-faint": c.faint || cell.faint };
    },
    tip(cell) {
      if (cell === null || cell === undefined) return null;
      const text = typeof cell === "object" ? cell.title || cell.t : String(cell);
      return text && String(text).length > 24 ? text : (typeof cell === "object" ? cell.title : null) || null;
    },
    open(row, event) {
      if (!row.go || event.target.closest("a, button, input")) return;
      if (String(window.getSelection())) return;
      if (row.go === true) this.$emit("open", { id: row.id });
      else emitEvent("sub_pages_navigate", row.go);
    },
    select(id) {
      const now = this.selected.includes(id) ? this.selected.filter((one) => one !== id) : [...this.selected, id];
      this.$emit("select", now);
    },
    selectAll() { this.$emit("select", this.all ? [] : this.free.map((row) => row.id)); },
  },
};
