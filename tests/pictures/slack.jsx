// The message in given.json, as Slack would show it in a channel.
import { createRoot } from 'react-dom/client';
import { Message } from 'slack-blocks-to-jsx';
import 'slack-blocks-to-jsx/dist/style.css';

const { blocks, logo, at } = await (await fetch('given.json')).json();
const message = <Message blocks={blocks} logo={logo} name="cheapdeep_ops" time={new Date(at * 1000)} />;
createRoot(document.getElementById('root')).render(<><h1 hidden>Slack</h1>{message}</>);

// Circles are emoji, for which this machine need not have a font: they are drawn as coloured dots.
const colours = { '\u{1F534}': '#dc2626', '\u{1F7E0}': '#f59e0b', '\u{1F7E2}': '#16a34a' };
setTimeout(() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) texts.push(walker.currentNode);
  for (const text of texts) {
    const emoji = Object.keys(colours).find(each => text.data.includes(each));
    if (!emoji) continue;
    const rest = text.splitText(text.data.indexOf(emoji));
    rest.data = rest.data.slice(emoji.length);
    const dot = document.createElement('span');
    dot.style.cssText = `display:inline-block; width:.8em; height:.8em; border-radius:50%; background:${colours[emoji]}`;
    rest.before(dot);
  }
}, 300);
