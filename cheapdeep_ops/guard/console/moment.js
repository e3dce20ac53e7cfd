// A moment in the reader's zone, with its age, which goes on counting by itself.
const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;
let ahead_s = 0; // the server's clock against the browser's

const age = (seconds) => {
  const passed = Math.max(seconds, 0);
  if (passed < MINUTE) return `${Math.floor(passed)} s`;
  if (passed < HOUR) return `${Math.floor(passed / MINUTE)} min`;
  if (passed < 2 * DAY) return `${Math.floor(passed / HOUR)} h`;
  return `${Math.floor(passed / DAY)} days`;
};
const local = (date, now) => {
  const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (date.toDateString() === now.toDateString()) return date.toLocaleTimeString("en-GB", clock);
  return date.toLocaleString("en-GB", { day: "numeric", month: "short", year: "numeric", ...clock });
};
// Its hours from UTC, because readers compare times with those of messages: "UTC+1", "UTC-3:30".
const zone = (date) => {
  const minutes = -date.getTimezoneOffset();
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  const off = `${hours}${rest ? `:${String(rest).padStart(2, "0")}` : ""}`;
  return minutes ? `UTC${minutes > 0 ? "+" : "-"}${off}` : "UTC";
};

export default {
  template: '<time :datetime="iso" :title="utc" :class="{ \'is-stale\': is_stale }">{{ text }}</time>',
  props: { at: Number, form: String, limit: Number, reading: Array },
  data: () => ({ tick_s: Date.now() / 1000 }),
  computed: {
    iso() { return new Date(this.at * 1000).toISOString(); },
    utc() {
      // Its name, for those who wonder which country's hours these are.
      if (this.form === "zone") return new Intl.DateTimeFormat().resolvedOptions().timeZone;
      return `${this.iso.slice(0, 19).replace("T", " ")} UTC`;
    },
    passed() { return this.tick_s + ahead_s - this.at; },
    is_stale() { return this.form === "live" && this.passed > this.limit; },
    text() {
      if (this.form === "zone") return `Times: ${zone(new Date((this.tick_s + ahead_s) * 1000))}`;
      if (this.form === "live") return `${this.is_stale ? "Stale" : "Live"}, ${age(this.passed)} ago`;
      const ago = this.passed < 0 ? `in ${age(-this.passed)}` : `${age(this.passed)} ago`;
      if (this.form === "age") return ago;
      const date = new Date(this.at * 1000);
      return `${local(date, new Date((this.tick_s + ahead_s) * 1000))} (${ago})`;
    },
  },
  watch: {
    // The server's present, with a number, so that a clock that stands still is set again too.
    reading: {
      immediate: true,
      handler(value) {
        if (!value) return;
        ahead_s = value[0] - Date.now() / 1000;
        this.tick_s = Date.now() / 1000;
      },
    },
  },
  mounted() { this.timer = setInterval(() => { this.tick_s = Date.now() / 1000; }, 1000); },
  unmounted() { clearInterval(this.timer); },
};
