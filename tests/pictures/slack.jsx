// The message in given.json, as Slack would show it in a channel.
import { createRoot } from 'react-dom/client';
import { Message } from 'slack-blocks-to-jsx';
import 'slack-blocks-to-jsx/dist/style.css';

const { blocks, logo, at } = await (await fetch('given.json')).json();
const message = <Message blocks={blocks} logo={logo} name="cheapdeep_ops" time={new Date(at * 1000)} />;
createRoot(document.getElementById('root')).render(<><h1 hidden>Slack</h1>{message}</>);
